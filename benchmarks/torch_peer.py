"""A definition run by PyTorch eager, for comparison: the layers of the five benchmark nets, with autograd."""

from __future__ import annotations

import torch
import torch.nn.functional as F

from caffepy.pycaffe.net import Net


class TorchNet:
    """The same graph, shapes and initial weights as caffepy's net, computed by torch.nn.functional."""

    def __init__(self, net_file: str, channels_last: bool):
        source = Net(net_file, 0)
        self.format = torch.channels_last if channels_last else torch.contiguous_format
        self.layers = [layer.param for layer in source.layers]
        self.tops = [source.top_names[layer.name] for layer in source.layers]
        self.weights = {
            layer.name: [self.tensor(blob.data).requires_grad_() for blob in layer.blobs] for layer in source.layers
        }
        self.data = {name: self.tensor(source.blobs[name].data) for name in ("data", "label")}
        self.loss_weights = source.blob_loss_weights

    def tensor(self, array) -> torch.Tensor:
        tensor = torch.from_numpy(array.copy(order="C"))
        return tensor.contiguous(memory_format=self.format) if tensor.ndim == 4 else tensor

    def forward_backward(self) -> None:
        for weights in self.weights.values():
            for weight in weights:
                weight.grad = None
        blobs, loss = dict(self.data), 0.0
        for param, tops in zip(self.layers, self.tops):
            if param.type == "DummyData":
                continue
            bottom = [blobs[name] for name in param.bottom]
            out = self.run(param, bottom, self.weights[param.name], len(tops))
            for name, value in zip(tops, out):
                blobs[name] = value
                weight = self.loss_weights.get(name, 0)
                if weight and param.type != "Split":
                    loss = loss + weight * value
        loss.backward()

    def run(self, param, bottom, weights, num_tops):
        x = bottom[0]
        match param.type:
            case "Convolution":
                p = param.convolution_param
                stride, pad = (p.stride or [1])[0], (p.pad or [0])[0]
                return [F.conv2d(x, *weights, stride=stride, padding=pad, groups=p.group)]
            case "Pooling":
                p = param.pooling_param
                kernel = x.shape[2] if p.global_pooling else p.kernel_size
                pool = F.max_pool2d if p.pool == p.MAX else F.avg_pool2d
                return [pool(x, kernel, p.stride, p.pad, ceil_mode=True)]
            case "ReLU":
                return [F.relu(x, inplace=True)]
            case "InnerProduct":
                return [F.linear(x.flatten(1), *weights)]
            case "LRN":
                p = param.lrn_param
                if p.norm_region == p.ACROSS_CHANNELS:
                    return [F.local_response_norm(x, p.local_size, p.alpha, p.beta, p.k)]
                mean = F.avg_pool2d(x * x, p.local_size, 1, p.local_size // 2)
                return [x * (1 + p.alpha * mean) ** -p.beta]
            case "Dropout":
                return [F.dropout(x, param.dropout_param.dropout_ratio)]
            case "Concat":
                return [torch.cat(bottom, 1)]
            case "Split":
                return [x] * num_tops
            case "SoftmaxWithLoss":
                return [F.cross_entropy(x, bottom[1].long())]
        raise NotImplementedError(param.type)
