"""What a user of ovmsclient does, over gRPC and HTTP: python ovms.py GRPC REST < x, the inputs as JSON.

Prints what it got as JSON. Runs in an environment without caffepy.
"""

import json
import sys

import numpy as np
import ovmsclient

x = np.array(json.load(sys.stdin), np.float32)
found = {}
for kind, client in (
    ("grpc", ovmsclient.make_grpc_client(sys.argv[1])),
    ("http", ovmsclient.make_http_client(sys.argv[2])),
):
    status = client.get_model_status("small")
    inputs = client.get_model_metadata("small", 1)
    if kind == "http":  # as TensorFlow Serving writes it, with which this client does nothing
        inputs = inputs["metadata"]["signature_def"]["signature_def"]["serving_default"]
        inputs = {
            "inputs": {"data": {"shape": [int(d["size"]) for d in inputs["inputs"]["data"]["tensor_shape"]["dim"]]}}
        }
    answer = client.predict({"data": x}, "small", 1)
    try:
        client.predict({"data": x}, "absent")
    except Exception as error:
        said = f"{type(error).__name__}: {error}"
    found[kind] = {
        "status": {int(k): v["state"] for k, v in status.items()},
        "inputs": inputs["inputs"]["data"]["shape"],
        "prob": np.asarray(answer["prob"] if isinstance(answer, dict) else answer).tolist(),
        "error": said,
    }
print(json.dumps(found, default=str))
