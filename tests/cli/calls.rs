//! How often a small model calls the right tool: as it likes, and where a grammar says what a call is.

use serde_json::{Value, json};

use super::model;
use super::serve::{CHAT, Server};

fn tool(name: &str, description: &str, properties: &Value) -> Value {
    let required: Vec<&String> = properties.as_object().unwrap().keys().collect();
    let parameters = json!({ "type": "object", "properties": properties, "required": required });
    json!({ "type": "function", "function": { "name": name, "description": description, "parameters": parameters } })
}

fn tools() -> [Value; 4] {
    let text = |description: &str| json!({ "type": "string", "description": description });
    let unit = json!({ "type": "string", "enum": ["celsius", "fahrenheit"] });
    let number = json!({ "type": "number" });
    [
        tool("get_weather", "The weather of a city", &json!({ "city": text("The city"), "unit": unit })),
        tool(
            "calculate",
            "Adds, subtracts, multiplies or divides two numbers",
            &json!({ "a": number, "b": number,
            "operation": { "type": "string", "enum": ["add", "subtract", "multiply", "divide"] } }),
        ),
        tool(
            "send_email",
            "Sends an email",
            &json!({ "to": text("The address"), "subject": text("The subject"), "body": text("The text") }),
        ),
        tool(
            "set_timer",
            "Starts a timer",
            &json!({ "minutes": { "type": "integer", "minimum": 1 }, "label": text("What it is for") }),
        ),
    ]
}

/// What a user says, the tool that is meant, and what one of its arguments must be.
const PROMPTS: [(&str, &str, &str, &str); 20] = [
    ("What is the weather in Paris in celsius?", "get_weather", "city", "Paris"),
    ("How warm is it in Oslo? Use celsius.", "get_weather", "city", "Oslo"),
    ("Tell me the temperature in Chicago in fahrenheit.", "get_weather", "unit", "fahrenheit"),
    ("Do I need an umbrella in London today? Celsius please.", "get_weather", "city", "London"),
    ("Weather in Tokyo, fahrenheit.", "get_weather", "city", "Tokyo"),
    ("What is 17 times 23?", "calculate", "operation", "multiply"),
    ("Add 1250 and 375.", "calculate", "operation", "add"),
    ("How much is 144 divided by 12?", "calculate", "operation", "divide"),
    ("Subtract 58 from 100.", "calculate", "operation", "subtract"),
    ("Compute 3.5 plus 4.25.", "calculate", "operation", "add"),
    (
        "Send an email to ann@example.com with the subject Lunch and ask whether noon works.",
        "send_email",
        "to",
        "ann@example.com",
    ),
    ("Write to bob@example.org, subject Invoice, that the invoice is paid.", "send_email", "to", "bob@example.org"),
    ("Email team@example.net about the meeting on Monday.", "send_email", "to", "team@example.net"),
    ("Please mail support@example.com that my printer is broken.", "send_email", "to", "support@example.com"),
    ("Send a thank you note to eve@example.com by email.", "send_email", "to", "eve@example.com"),
    ("Set a timer for 10 minutes for the pasta.", "set_timer", "minutes", "10"),
    ("Wake me in 45 minutes from my nap.", "set_timer", "minutes", "45"),
    ("Start a 3 minute timer for tea.", "set_timer", "minutes", "3"),
    ("Remind me in 20 minutes to take the bread out.", "set_timer", "minutes", "20"),
    ("Timer: 90 minutes, for the roast.", "set_timer", "minutes", "90"),
];

/// Prompts of which the answer is a call, of the right tool, with arguments that fit their schema, of which one is right.
fn counts(server: &Server, more: &Value, strict: bool) -> [usize; 4] {
    let mut tools = tools();
    tools.iter_mut().for_each(|tool| tool["function"]["strict"] = strict.into());
    let mut sums = [0; 4];
    for (text, name, parameter, value) in PROMPTS {
        let mut body = json!({ "messages": [{ "role": "user", "content": text }], "tools": tools, "temperature": 0, "max_tokens": 200 });
        body.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        let (status, answer) = server.post(CHAT, &body);
        assert_eq!(status, 200, "{answer}");
        let call = &answer["choices"][0]["message"]["tool_calls"][0]["function"];
        let Some(arguments) = call["arguments"].as_str() else { continue };
        let arguments: Value = serde_json::from_str(arguments).unwrap_or(Value::Null);
        let tool = tools.iter().find(|tool| tool["function"]["name"] == call["name"]);
        let fits = tool.is_some_and(|tool| jsonschema::is_valid(&tool["function"]["parameters"], &arguments));
        let said = match &arguments[parameter] {
            Value::String(text) => text.clone(),
            other => other.to_string(),
        };
        let right = call["name"] == name;
        let all = [true, right, fits, right && fits && said.contains(value)];
        sums.iter_mut().zip(all).for_each(|(sum, holds)| *sum += usize::from(holds));
    }
    sums
}

#[test]
#[ignore = "takes minutes: make test-slow"]
fn a_grammar_makes_every_answer_of_a_small_model_a_call() {
    let Some(model) = model("qwen2.5-coder-0.5b-instruct-q4_k_m.gguf") else { return };
    let server = Server::start(&model, &["--ctx", "2048"]);
    let single = json!({ "parallel_tool_calls": false });
    let auto = counts(&server, &single, false);
    let strict = counts(&server, &single, true);
    let required = counts(&server, &json!({ "tool_choice": "required", "parallel_tool_calls": false }), true);
    println!("calls, right tools, arguments that fit, all right, of {}:", PROMPTS.len());
    println!("auto {auto:?}, auto with strict tools {strict:?}, required {required:?}");
    // What a grammar promises, and what it does not.
    assert_eq!((required[0], required[2]), (PROMPTS.len(), PROMPTS.len()));
    assert_eq!(strict[0], strict[2]);
    assert!(
        strict[3] >= auto[3],
        "a model that leaves the marker out calls less where its calls are held to their schema"
    );
    assert!(required[3] >= auto[3], "a grammar takes right answers away");
}
