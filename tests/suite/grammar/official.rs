//! Every case of the JSON Schema Test Suite, draft 2020-12.

use std::collections::BTreeMap;
use std::fs;

use super::*;
use crate::common::skipped;

#[test]
fn no_case_of_the_official_suite_is_wrong() {
    let Some(folder) = skipped::unless_cached("json-schema-tests/tests/draft2020-12", "make models") else {
        return;
    };
    let mut files: Vec<_> = fs::read_dir(folder).unwrap().map(|f| f.unwrap().path()).collect();
    files.retain(|p| p.extension().is_some_and(|e| e == "json"));
    files.sort();
    let mut bytes = Bytes::new();
    let (mut right, mut refused, mut strict, mut wrong) = (0, BTreeMap::new(), Vec::new(), Vec::new());
    for file in files {
        let groups: Vec<Value> = serde_json::from_slice(&fs::read(&file).unwrap()).unwrap();
        for group in groups {
            let tests = group["tests"].as_array().unwrap();
            let matcher = match bytes.schema(&group["schema"]) {
                Ok(matcher) => matcher,
                Err(e) => {
                    assert_eq!(e.kind(), ErrorKind::BadGrammar, "{e}");
                    *refused.entry(e.detail().to_owned()).or_insert(0) += tests.len();
                    continue;
                }
            };
            for test in tests {
                let text = test["data"].to_string();
                let name = || {
                    format!(
                        "{}: {}: {}: {text}",
                        file.file_stem().unwrap().display(),
                        group["description"],
                        test["description"]
                    )
                };
                match (accepts(&matcher, &text), test["valid"].as_bool().unwrap()) {
                    (true, false) => wrong.push(format!("{} schema {}", name(), group["schema"])),
                    (false, true) => strict.push(name()),
                    _ => right += 1,
                }
            }
        }
    }
    // A reader may want to see what is refused, and why.
    println!("{refused:#?}\ntoo strict: {strict:#?}");
    assert!(wrong.is_empty(), "{wrong:#?}");
    // Formats are not annotations here, properties come in the order of the schema, and an integer is not written 1.0.
    let refused: usize = refused.values().sum();
    assert!(right >= 531 && refused <= 703 && strict.len() <= 23, "{right} right, {refused} refused, {}", strict.len());
}
