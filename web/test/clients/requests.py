"""Sends requests through OpenAI's client for Python, and prints what comes back.

    python requests.py http://127.0.0.1:8080/v1 < requests.json

Each is `[endpoint, parameters]`, such as `["chat.completions", {…}]`; its answer is an object, or a list of those of a stream,
and an error is its status and its body.
"""

import json
import sys

import openai


def asked(client, endpoint, params):
    for name in endpoint.split("."):
        client = getattr(client, name)
    try:
        made = client.create(**params)
        if params.get("stream"):
            return [part.model_dump(exclude_unset=True) for part in made]
        return made.model_dump(exclude_unset=True)
    except openai.APIStatusError as error:
        return {"status": error.status_code, "error": error.body}


client = openai.OpenAI(base_url=sys.argv[1], api_key="-", max_retries=0)
print(json.dumps([asked(client, endpoint, params) for endpoint, params in json.load(sys.stdin)]))
