"""What a user of tritonclient does, over gRPC and HTTP: python triton.py GRPC REST < x, the inputs as JSON.

Prints what it got as JSON. Runs in an environment without caffepy.
"""

import json
import sys
from functools import partial

import numpy as np
import tritonclient.grpc as over_grpc
import tritonclient.http as over_http


def ask(library, client, x):
    found = {"live": client.is_server_live(), "ready": client.is_server_ready()}
    found |= {name: client.is_model_ready(name) for name in ("small", "absent")}
    given = library.InferInput("data", list(x.shape), "FP32")
    given.set_data_from_numpy(x)
    answer = client.infer("small", [given], model_version="1", request_id="seven")
    found["prob"] = answer.as_numpy("prob").tolist()
    top = library.InferRequestedOutput("prob", class_count=2)
    found["classes"] = [
        [v.decode() for v in row] for row in client.infer("small", [given], outputs=[top]).as_numpy("prob")
    ]
    try:
        client.infer("absent", [given])
    except Exception as error:
        found["error"] = str(error)
    client.unload_model("small")
    client.load_model("small")
    return found


def over_lists(x):
    """JSON and typed lists instead of the bytes that are the default."""
    given = over_http.InferInput("data", list(x.shape), "FP32")
    given.set_data_from_numpy(x, binary_data=False)
    answer = http.infer("small", [given], outputs=[over_http.InferRequestedOutput("prob", binary_data=False)])
    return answer.as_numpy("prob").tolist()


def compressed(x):
    given = over_http.InferInput("data", list(x.shape), "FP32")
    given.set_data_from_numpy(x)
    return http.infer("small", [given], request_compression_algorithm="gzip").as_numpy("prob").tolist()


def streamed(x):
    got = []
    client = over_grpc.InferenceServerClient(sys.argv[1])
    client.start_stream(callback=partial(lambda got, result, error: got.append(error or result.as_numpy("prob")), got))
    for row in x:
        given = over_grpc.InferInput("data", [1, 4], "FP32")
        given.set_data_from_numpy(row[None])
        client.async_stream_infer("small", [given])
    client.stop_stream()
    return [values.tolist()[0] for values in got]


x = np.array(json.load(sys.stdin), np.float32)
http = over_http.InferenceServerClient(sys.argv[2])
grpc = over_grpc.InferenceServerClient(sys.argv[1])
found = {"http": ask(over_http, http, x), "grpc": ask(over_grpc, grpc, x)}
found["metadata"] = [http.get_model_metadata("small"), grpc.get_model_metadata("small", as_json=True)]
found["server"] = [http.get_server_metadata()["name"], grpc.get_server_metadata().name]
found["config"] = [http.get_model_config("small"), grpc.get_model_config("small", as_json=True)["config"]]
found["index"] = [http.get_model_repository_index(), grpc.get_model_repository_index(as_json=True)["models"]]
statistics = grpc.get_inference_statistics("small", as_json=True)["model_stats"]
found["statistics"] = [http.get_inference_statistics("small")["model_stats"], statistics]
found |= {"lists": over_lists(x), "gzip": compressed(x), "stream": streamed(x)}
print(json.dumps(found))
