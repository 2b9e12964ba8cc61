"""TensorFlow Serving's gRPC services: PredictionService and ModelService."""

from __future__ import annotations

from typing import Any

from caffepy.errors import CaffeError
from caffepy.serve import signature_def, tensors
from caffepy.serve.api import tensorflow_serving_pb2 as tfs
from caffepy.serve.refusal import HTTP, invalid
from caffepy.serve.rpc import deadline_of
from caffepy.serve.served import Version
from caffepy.serve.service import Asked, Service, session_of

CLASSIFY, REGRESS = "tensorflow/serving/classify", "tensorflow/serving/regress"


def asked(spec: tfs.ModelSpec, api: str) -> Asked:
    if not spec.name:
        raise invalid("Missing ModelSpec name")
    kind = spec.WhichOneof("version_choice")
    number = spec.version.value if kind == "version" else None
    return Asked(spec.name, number, spec.version_label if kind else "", spec.signature_name, api)


def _name_version(spec: tfs.ModelSpec, version: Version, signature: str = "") -> None:
    spec.name = version.model_name
    spec.version.value = version.number
    spec.signature_name = signature or "serving_default"


class PredictionService:
    """Methods by their names in the API."""

    def __init__(self, service: Service, raw: bool = False):
        self.service, self.raw = service, raw

    @property
    def methods(self) -> dict[str, tuple[type, Any]]:
        return {
            "Predict": (tfs.PredictRequest, self.predict),
            "Classify": (tfs.ClassificationRequest, self.classify),
            "Regress": (tfs.RegressionRequest, self.regress),
            "MultiInference": (tfs.MultiInferenceRequest, self.multi_inference),
            "GetModelMetadata": (tfs.GetModelMetadataRequest, self.get_model_metadata),
        }

    async def predict(self, request: tfs.PredictRequest, context: Any) -> tfs.PredictResponse:
        given = {name: tensors.to_array(name, tensor) for name, tensor in request.inputs.items()}
        session = dict(context.invocation_metadata() or ()).get("session-id", "")
        spec = asked(request.model_spec, "Predict")._replace(session=session_of(session))
        version, outputs = await self.service.infer(spec, given, request.output_filter, deadline_of(context))
        response = tfs.PredictResponse()
        _name_version(response.model_spec, version, spec.signature)
        for name, values in outputs.items():
            tensors.to_proto(values, response.outputs[name], self.raw)
        return response

    async def classify(self, request: tfs.ClassificationRequest, context: Any) -> tfs.ClassificationResponse:
        response = tfs.ClassificationResponse()
        version = await self._classify(request.model_spec, request.input, context, response.result)
        _name_version(response.model_spec, version, request.model_spec.signature_name)
        return response

    async def _classify(
        self, spec: tfs.ModelSpec, given: tfs.Input, context: Any, out: tfs.ClassificationResult
    ) -> Version:
        version, rows = await self.service.classify(asked(spec, "Classify"), _examples(given), deadline_of(context))
        for row in rows:
            classes = out.classifications.add().classes
            for label, score in row:
                classes.add(label=label, score=score)
        return version

    async def regress(self, request: tfs.RegressionRequest, context: Any) -> tfs.RegressionResponse:
        response = tfs.RegressionResponse()
        version = await self._regress(request.model_spec, request.input, context, response.result)
        _name_version(response.model_spec, version, request.model_spec.signature_name)
        return response

    async def _regress(self, spec: tfs.ModelSpec, given: tfs.Input, context: Any, out: tfs.RegressionResult) -> Version:
        version, values = await self.service.regress(asked(spec, "Regress"), _examples(given), deadline_of(context))
        for value in values:
            out.regressions.add(value=value)
        return version

    async def multi_inference(self, request: tfs.MultiInferenceRequest, context: Any) -> tfs.MultiInferenceResponse:
        if len({task.model_spec.name for task in request.tasks}) != 1:
            raise invalid("the tasks must be at least one, and all of one model")
        response = tfs.MultiInferenceResponse()
        for task in request.tasks:
            result = response.results.add()
            if task.method_name == CLASSIFY:
                found = await self._classify(task.model_spec, request.input, context, result.classification_result)
            elif task.method_name == REGRESS:
                found = await self._regress(task.model_spec, request.input, context, result.regression_result)
            else:
                raise invalid(f'the method "{task.method_name}" is neither {CLASSIFY} nor {REGRESS}')
            _name_version(result.model_spec, found, task.model_spec.signature_name)
        return response

    async def get_model_metadata(
        self, request: tfs.GetModelMetadataRequest, context: Any
    ) -> tfs.GetModelMetadataResponse:
        for name in request.metadata_field:
            if name != "signature_def":
                raise invalid(f"Metadata field {name} is not supported", "Ask for signature_def.")
        if not request.metadata_field:
            raise invalid("GetModelMetadataRequest must specify at least one metadata_field")
        spec = asked(request.model_spec, "GetModelMetadata")
        version = self.service.catalog.pick(spec.name, spec.version, spec.label)
        assert version.model is not None
        response = tfs.GetModelMetadataResponse()
        _name_version(response.model_spec, version, spec.signature)
        response.metadata["signature_def"].Pack(signature_def.of(version.model.signature))
        return response


def _examples(given: tfs.Input) -> list[dict[str, Any]]:
    if given.WhichOneof("kind") == "example_list_with_context":
        both = given.example_list_with_context
        return tensors.to_features(both.examples, both.context)
    return tensors.to_features(given.example_list.examples)


class ModelService:
    def __init__(self, service: Service):
        self.catalog, self.control = service.catalog, service.control

    @property
    def methods(self) -> dict[str, tuple[type, Any]]:
        return {
            "GetModelStatus": (tfs.GetModelStatusRequest, self.get_model_status),
            "HandleReloadConfigRequest": (tfs.ReloadConfigRequest, self.handle_reload),
        }

    async def get_model_status(self, request: tfs.GetModelStatusRequest, context: Any) -> tfs.GetModelStatusResponse:
        spec = asked(request.model_spec, "GetModelStatus")
        response = tfs.GetModelStatusResponse()
        for version in signature_def.statuses(self.catalog, spec):
            status = response.model_version_status.add(version=version.number, state=version.state)
            status.status.error_code = tfs.UNKNOWN if version.error else tfs.OK
            status.status.error_message = version.error
        return response

    async def handle_reload(self, request: tfs.ReloadConfigRequest, context: Any) -> tfs.ReloadConfigResponse:
        """What is wrong with a configuration is told in the reply, as TensorFlow Serving does."""
        response = tfs.ReloadConfigResponse()
        try:
            await self.control.reload(request)
        except CaffeError as error:
            code = getattr(error, "code", "INVALID_ARGUMENT")
            response.status.error_code = tfs.Code.Value(code if code in HTTP else "UNKNOWN")
            response.status.error_message = str(error)
        return response
