"""OpenAI's own client, streaming: python examples/openai_client.py What is a hash table?"""

import os
import sys

from openai import OpenAI

client = OpenAI(
    base_url=os.environ.get("LEANVIBE_REST", "http://127.0.0.1:8000") + "/v1",
    api_key=os.environ.get("LEANVIBE_TOKEN", "unused"),
)
question = " ".join(sys.argv[1:]) or "What is a hash table?"
model = client.models.list().data[0].id
stream = client.chat.completions.create(
    model=model, messages=[{"role": "user", "content": question}], max_tokens=200, stream=True
)
for chunk in stream:
    if chunk.choices and chunk.choices[0].delta.content:
        print(chunk.choices[0].delta.content, end="", flush=True)
print()
