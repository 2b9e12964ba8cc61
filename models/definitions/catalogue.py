"""All nets that are written by functions."""

from __future__ import annotations

from functools import partial

from models.definitions import alexnets, faster_rcnn, mnist, mobile, resnet, segmentation, sources, ssd, vgg
from models.definitions.made import Made

CLASSIFIER = {
    "task": "classification", "classes": 1000, "records": 1281167,
    "reads": "Colour pictures, BGR, 0..255, stored as 256 x 256, minus 104, 117 and 123 (blue, green, red), cut "
    "at random "
    "and mirrored at random in training, cut at the centre in tests. The net reads the LMDBs "
    "`examples/imagenet/ilsvrc12_train_lmdb` and `ilsvrc12_val_lmdb`, where Caffe's own example puts them.",
}  # fmt: skip


def sgd(rate: str, decay: str, iterations: int, policy: str, batch: int = 1, momentum: str = "0.9") -> str:
    """A recipe for ImageNet, whose 50,000 validation pictures are seen in batches of 50."""
    several = f"iter_size: {batch}\n" if batch > 1 else ""
    return (
        f"test_iter: 1000\ntest_interval: 5000\ntest_initialization: false\nbase_lr: {rate}\nmomentum: {momentum}\n"
        f"weight_decay: {decay}\n{policy}\n{several}max_iter: {iterations}\ndisplay: 20\nsnapshot: 10000\n"
    )


def steps(*at: int) -> str:
    return 'lr_policy: "multistep"\ngamma: 0.1\n' + "\n".join(f"stepvalue: {i}" for i in at)


STEP = 'lr_policy: "step"\ngamma: 0.1\nstepsize: 100000'
LINEAR = 'lr_policy: "poly"\npower: 1'
HE = "K. He, X. Zhang, S. Ren, J. Sun. Deep Residual Learning for Image Recognition. CVPR 2016, arXiv:1512.03385."
RESNET_SOURCE = (
    "names and strides (in the first 1 x 1 convolution of a stage) are those of the authors' Caffe files. "
    "Theirs add the "
    "padding of `conv1` and a bias in one of them; here no convolution has a bias."
)


def imagenet(size: int, train: int = 32, scale: str = "") -> dict:
    return {"inputs": {"data": (1, 3, size, size)}, "data": sources.imagenet(size, train, 50, scale), **CLASSIFIER}


def residual(depth: int, published: str, source: str = RESNET_SOURCE) -> Made:
    return Made(
        name=f"resnet{depth}", title=f"ResNet-{depth}", body=partial(resnet.resnet, depth), paper=HE, source=source,
        what=f"A classifier of {depth} layers, whose units add to what they get: 1,000 classes of ImageNet.",
        solver=sgd("0.1", "0.0001", 450000, steps(150000, 300000), 8), published=published, **imagenet(224),
    )  # fmt: skip


def visual(depth: int, published: str) -> Made:
    return Made(
        name=f"vgg{depth}", title=f"VGG-{depth}", body=partial(vgg.vgg, depth), published=published,
        what=f"{depth - 3} convolutions of 3 x 3 in five stages, and three inner products: 1,000 classes of "
        f"ImageNet.",
        paper="K. Simonyan, A. Zisserman. Very Deep Convolutional Networks for Large-Scale Image Recognition. "
        "ICLR 2015, "
        "arXiv:1409.1556.",
        source="layers and names are those of the authors' Caffe files; initial weights are `xavier` instead of "
        "those of "
        "a smaller net.",
        solver=sgd("0.01", "0.0005", 370000, STEP, 8), **imagenet(224),
    )  # fmt: skip


CLASSIFIERS = [
    Made(
        name="caffenet", title="CaffeNet", body=alexnets.caffenet, published="60.97 M parameters; 0.72 G "
        "multiply-adds.",
        what="AlexNet with pooling before normalisation: Caffe's reference net for the 1,000 classes of ImageNet.",
        paper="A. Krizhevsky, I. Sutskever, G. E. Hinton. ImageNet Classification with Deep Convolutional "
        "Neural Networks. "
        "NIPS 2012.",
        source="Caffe's `bvlc_reference_caffenet`, layer by layer; the mean is a colour, not a picture.",
        solver=sgd("0.01", "0.0005", 450000, STEP), **imagenet(227, 256),
    ),
    Made(
        name="zfnet", title="ZFNet", body=alexnets.zfnet, published="62.4 M parameters.",
        what="AlexNet with a finer first convolution: winner of ILSVRC 2013, 1,000 classes of ImageNet.",
        paper="M. D. Zeiler, R. Fergus. Visualizing and Understanding Convolutional Networks. ECCV 2014, "
        "arXiv:1311.2901.",
        source="figure 3 of the paper; local response normalisation instead of contrast normalisation, as all ports.",
        solver=sgd("0.01", "0.0005", 700000, 'lr_policy: "step"\ngamma: 0.1\nstepsize: 200000'), **imagenet(224, 128),
    ),
    visual(16, "138 M parameters (table 2), 15.5 G multiply-adds."),
    visual(19, "144 M parameters (table 2), 19.6 G multiply-adds."),
    residual(18, "1.8 G multiply-adds (table 1).", "the paper's table 1, with names as in the authors' Caffe "
        "files for "
             "deeper nets, which have none for this."),
    residual(50, "3.8 G multiply-adds (table 1); 25.6 M parameters."),
    residual(101, "7.6 G multiply-adds (table 1); 44.5 M parameters."),
    residual(152, "11.3 G multiply-adds (table 1); 60.2 M parameters."),
    Made(
        name="se_resnet50", title="SE-ResNet-50", body=resnet.se_resnet50,
        what="ResNet-50 whose units weigh their channels by what the whole picture says: 1,000 classes of ImageNet.",
        paper="J. Hu, L. Shen, G. Sun. Squeeze-and-Excitation Networks. CVPR 2018, arXiv:1709.01507.",
        source="names as in the authors' Caffe files, with their layer `Axpy`.",
        published="3.87 G multiply-adds; 28.1 M parameters (table 10 of the journal's version).",
        solver=sgd("0.1", "0.0001", 500000, steps(150000, 300000, 450000), 8), **imagenet(224),
    ),
    Made(
        name="nin", title="NiN", body=alexnets.nin, published="7.6 M parameters.",
        what="Network in network: perceptrons over channels between the convolutions, and no inner product. "
        "1,000 classes.",
        paper="M. Lin, Q. Chen, S. Yan. Network In Network. ICLR 2014, arXiv:1312.4400.",
        source="layers as in the authors' net for ImageNet in Caffe's Model Zoo.",
        solver=sgd("0.01", "0.0005", 450000, 'lr_policy: "step"\ngamma: 0.1\nstepsize: 200000'), **imagenet(224, 64),
    ),
    Made(
        name="squeezenet", title="SqueezeNet 1.1", body=mobile.squeezenet,
        what="AlexNet's accuracy with a fiftieth of its parameters: 1,000 classes of ImageNet.",
        paper="F. N. Iandola, S. Han, M. W. Moskewicz, K. Ashraf, W. J. Dally, K. Keutzer. SqueezeNet: "
        "AlexNet-level accuracy "
        "with 50x fewer parameters. 2016, arXiv:1602.07360.",
        source="version 1.1 of the authors' Caffe files, layer by layer, with their recipe.",
        published="1.24 M parameters; 0.39 G multiply-adds (the authors' page).",
        solver=sgd("0.04", "0.0002", 170000, LINEAR, 16), **imagenet(227),
    ),
    Made(
        name="mobilenet_v1", title="MobileNet v1", body=mobile.mobilenet_v1,
        what="Convolutions a channel, and 1 x 1 convolutions between the channels: 1,000 classes of ImageNet.",
        paper="A. G. Howard et al. MobileNets: Efficient Convolutional Neural Networks for Mobile Vision "
        "Applications. 2017, "
        "arXiv:1704.04861.",
        source="the paper's table 1; names as in the common Caffe port. Convolutions a channel are "
        "`Convolution` with "
        "`group`.",
        published="4.2 M parameters, 569 M multiply-adds (table 8).",
        solver=sgd("0.1", "0.00004", 450000, LINEAR, 4), **imagenet(224, 64, "0.017"),
    ),
    Made(
        name="mobilenet_v2", title="MobileNet v2", body=mobile.mobilenet_v2,
        what="Wide convolutions a channel between narrow maps, which are added: 1,000 classes of ImageNet.",
        paper="M. Sandler, A. Howard, M. Zhu, A. Zhmoginov, L.-C. Chen. MobileNetV2: Inverted Residuals and Linear "
        "Bottlenecks. CVPR 2018, arXiv:1801.04381.",
        source="the paper's table 2, so that the first unit does not expand; names as in the common Caffe port.",
        published="3.4 M parameters, 300 M multiply-adds (table 4); torchvision counts 3,504,872 parameters.",
        solver=sgd("0.05", "0.00004", 750000, LINEAR, 4), **imagenet(224, 64, "0.017"),
    ),
    Made(
        name="shufflenet", title="ShuffleNet", body=mobile.shufflenet,
        what="Grouped 1 x 1 convolutions whose channels are dealt out anew in between: version 1, three groups, "
        "full width.",
        paper="X. Zhang, X. Zhou, M. Lin, J. Sun. ShuffleNet: An Extremely Efficient Convolutional Neural "
        "Network for Mobile "
        "Devices. CVPR 2018, arXiv:1707.01083.",
        source="the paper's table 1; layer `ShuffleChannel` of the common Caffe port.",
        published="137 M multiply-adds (table 1).",
        solver=sgd("0.5", "0.00004", 300000, LINEAR, 16), **imagenet(224, 64, "0.017"),
    ),
]  # fmt: skip

VOC_BOXES = ("examples/VOC0712/VOC0712_trainval_lmdb", "examples/VOC0712/VOC0712_test_lmdb")
SSD_PAPER = (
    "W. Liu, D. Anguelov, D. Erhan, C. Szegedy, S. Reed, C.-Y. Fu, A. C. Berg. SSD: Single Shot MultiBox Detector. "
    "ECCV 2016, arXiv:1512.02325."
)


def detector_solver(rate: str, decay: str, iterations: int, policy: str, more: str = "", tests: int = 619) -> str:
    return (
        f"test_iter: {tests}\ntest_interval: 10000\ntest_initialization: false\n{more}base_lr: "
        f"{rate}\nmomentum: 0.9\n"
        f"weight_decay: {decay}\n{policy}\nmax_iter: {iterations}\naverage_loss: 10\ndisplay: 10\nsnapshot: 10000\n"
    )


CONF = "_mbox_conf$"
SHAPES_TEST = "test_iter: 10\ntest_interval: 250\ntest_initialization: false\n"
ADAM = 'type: "Adam"\nbase_lr: {}\nmomentum: 0.9\nmomentum2: 0.999\n'

DETECTORS = [
    Made(
        name="ssd", title="SSD for shapes", task="detection", classes=4, heads=CONF, records=2000, body=ssd.shapes,
        what="A small single shot detector that learns from generated pictures in minutes, to see how detection "
        "is trained: "
        "circles, squares and triangles in any colour. `shapes.py` writes the pictures.",
        paper=SSD_PAPER, source="the paper's heads on a trunk of our own of five convolutions.",
        inputs={"data": (1, 3, 96, 96)},
        data=sources.pair(
            "AnnotatedData", ("data", "label"),
            ("mirror: true mean_value: 128 scale: 0.0078125", sources.database("models/ssd/shapes/train_lmdb", 32)),
            ("mean_value: 128 scale: 0.0078125", sources.database("models/ssd/shapes/test_lmdb", 40)),
        ),
        solver=SHAPES_TEST + ADAM.format(0.002)
        + 'weight_decay: 0.0005\nlr_policy: "fixed"\nmax_iter: 500\naverage_loss: 50\ndisplay: 50\n'
        "random_seed: 1\nsolver_mode: CPU\n",
        reads="Colour pictures of 96 x 96, BGR, 0..255, minus 128, divided by 128; boxes as in SSD's databases. "
        "Written by\n\n"
        "    python models/ssd/shapes.py models/ssd/shapes\n\n"
        "2,000 pictures to train on and 400 to test on, 104 MB with the masks for `models/fcn`.",
        runs="Tests print the mean average precision: 0.730 after 250 iterations, 0.924 after all 500, 7 minutes and 3 "
        "seconds after the start, on two cores that other programs took for the most part (load 11 to 13), "
        "2026-11-30.",
    ),
    Made(
        name="ssd300_vgg16", title="SSD300", task="detection", classes=21, heads=CONF, records=16551, body=ssd.vgg300,
        what="The single shot detector over VGG-16, for the 20 classes of VOC and background.", paper=SSD_PAPER,
        source="layers and recipe of the authors' Caffe; VGG's `pool5` and inner products are changed as theirs.",
        inputs={"data": (1, 3, 300, 300)}, published="26.3 M parameters; 31.4 G multiply-adds.",
        data=sources.boxes(*VOC_BOXES, (32, 8), 300, sources.MEANS),
        solver=detector_solver("0.001", "0.0005", 120000, steps(80000, 100000)),
        reads="Colour pictures resized to 300 x 300, BGR, minus 104, 117 and 123; databases as the authors' "
        "scripts write "
        "them, `examples/VOC0712/VOC0712_trainval_lmdb` and `VOC0712_test_lmdb`. Training starts from the weights of "
        "VGG-16 with a smaller `fc6` and `fc7`: give them with `--weights`. Tests print the mean average precision.",
    ),
    Made(
        name="ssd300_mobilenet", title="MobileNet-SSD", task="detection", classes=21, heads=CONF, records=16551,
        body=ssd.mobilenet300, what="The single shot detector over MobileNet v1, for the 20 classes of VOC and "
        "background.",
        paper=SSD_PAPER, inputs={"data": (1, 3, 300, 300)}, published="1.14 G multiply-adds (of ports to other "
        "tools).",
        source="layers, names and priors of the common Caffe port, with BatchNorm not folded.",
        data=sources.boxes(*VOC_BOXES, (24, 8), 300, "mean_value: 127.5", " scale: 0.007843"),
        solver=detector_solver("0.0005", "0.00005", 120000, steps(60000, 100000), 'type: "RMSProp"\nrms_decay: 0.98\n')
        .replace("momentum: 0.9\n", ""),
        reads="Colour pictures resized to 300 x 300, BGR, minus 127.5, times 0.007843; databases as for "
        "`ssd300_vgg16`.",
    ),
    Made(
        name="faster_rcnn_vgg16", title="Faster R-CNN", task="detection", classes=21, records=5011,
        heads="^(cls_score|bbox_pred)$",
        body=faster_rcnn.faster_rcnn, published="137 M parameters.",
        what="Regions proposed by a net, then classified, over VGG-16, for the 20 classes of VOC and background.",
        paper="S. Ren, K. He, R. Girshick, J. Sun. Faster R-CNN: Towards Real-Time Object Detection with Region "
        "Proposal "
        "Networks. NIPS 2015, arXiv:1506.01497.",
        source="layers and names of py-faster-rcnn's end-to-end net. `targets.py`, which chooses what to train "
        "on, is "
        "written anew from the paper; pictures and boxes come from AnnotatedData, resized to 600 x 600.",
        inputs={"data": (1, 3, 600, 800), "im_info": (1, 3)},
        data=sources.pair(
            "AnnotatedData", ("data", "label"),
            *[
                (f"{mirror}{sources.MEANS} resize_param {{ prob: 1 resize_mode: WARP height: 600 width: 600 "
                 "interp_mode: LINEAR }", sources.database(source, 1))
                for mirror, source in zip(("mirror: true ", ""), VOC_BOXES)
            ],
        ),
        solver=detector_solver("0.001", "0.0005", 70000, 'lr_policy: "step"\ngamma: 0.1\nstepsize: 50000', tests=100),
        reads="Colour pictures, BGR, minus 104, 117 and 123, one a batch, and in `im_info` their height, width "
        "and scale. "
        "Databases as for `ssd300_vgg16`. Training starts from the weights of VGG-16: give them with `--weights`. "
        "`targets.py` is found from the folder that the command is started in. Offsets of `bbox_pred` are "
        "divided by 0.1, 0.1, 0.2 and 0.2, as they are trained.",
    ),
]  # fmt: skip

FCN_PAPER = (
    "E. Shelhamer, J. Long, T. Darrell. Fully Convolutional Networks for Semantic Segmentation. PAMI 2017, "
    "arXiv:1605.06211."
)


def fully(stride: int, rate: str, start: str) -> Made:
    lists = "data/pascal/seg11train.txt", "data/pascal/seg11valid.txt"
    return Made(
        name=f"fcn{stride}s", title=f"FCN-{stride}s", task="segmentation", classes=21, records=8498,
        body=partial(segmentation.fcn, stride), paper=FCN_PAPER, published="134 M parameters.",
        what=f"VGG-16 as a net of convolutions, whose scores of {stride} x {stride} pixels a cell are "
        f"interpolated: 20 classes "
        "of VOC and background.",
        source="layers and names of the authors' Caffe files. Here each class is interpolated apart (`group: "
        "21`), theirs "
        "have one weight for each pair of classes, all 0 but those of a class with itself.",
        inputs={"data": (1, 3, 500, 500)},
        data=sources.lists("ImageSegData", *lists, (1, 1), sources.MEANS, " label_type: PIXEL ignore_label: 255"),
        solver=f"test_iter: 736\ntest_interval: 4000\ntest_initialization: false\nbase_lr: {rate}\nmomentum: 0.99\n"
        'weight_decay: 0.0005\nlr_policy: "fixed"\nmax_iter: 100000\naverage_loss: 20\ndisplay: 20\nsnapshot: 4000\n',
        reads="Colour pictures of any size, BGR, minus 104, 117 and 123, one a batch. "
        "`data/pascal/seg11train.txt` and "
        "`seg11valid.txt` list pictures and masks, 255 where nothing counts. Training starts from "
        f"{start}: give them with `--weights`.",
    )  # fmt: skip


SEGMENTERS = [
    Made(
        name="fcn", title="FCN for shapes", task="segmentation", classes=4, records=2000, body=segmentation.shapes,
        what="A small fully convolutional net that learns from generated pictures in minutes, to see how "
        "segmentation is "
        "trained: circles, squares, triangles and background.", paper=FCN_PAPER,
        source="the paper's skips and interpolation on a trunk of our own of seven convolutions.",
        inputs={"data": (1, 3, 96, 96)},
        data=sources.lists(
            "ImageSegData", "models/ssd/shapes/train.txt", "models/ssd/shapes/test.txt", (16, 40),
            "mean_value: 128 scale: 0.0078125", " label_type: PIXEL",
        ),
        solver=SHAPES_TEST + ADAM.format(0.002)
        + f"weight_decay: 0.0001\n{steps(600)}\nmax_iter: 750\naverage_loss: 50\ndisplay: 50\n"
        "random_seed: 1\nsolver_mode: CPU\n",
        reads="Colour pictures of 96 x 96, BGR, 0..255, minus 128, divided by 128. Lists and pictures are "
        "written by\n\n"
        "    python models/ssd/shapes.py models/ssd/shapes",
        runs="After 750 iterations tests print a pixel accuracy of 0.975, a mean recall of 0.822 and a mean "
        "intersection over union of 0.811; 11 minutes and 52 seconds after the start, on two cores that other programs "
        "took for the most part (load 11 to 15), 2026-11-30.",
    ),
    fully(32, "1e-10", "the weights of VGG-16, its `fc6` and `fc7` as convolutions"),
    fully(16, "1e-12", "the weights of FCN-32s"),
    fully(8, "1e-14", "the weights of FCN-16s"),
    Made(
        name="segnet", title="SegNet", task="segmentation", classes=11, records=367, body=segmentation.segnet,
        what="VGG-16's convolutions to a small map and back, where values return to the places of the maxima: "
        "11 classes of "
        "CamVid.", published="29.5 M parameters.",
        paper="V. Badrinarayanan, A. Kendall, R. Cipolla. SegNet: A Deep Convolutional Encoder-Decoder "
        "Architecture for "
        "Image Segmentation. PAMI 2017, arXiv:1511.00561.",
        source="layers and names of the authors' Caffe files; classes are not weighted by their frequency. "
        "`bn_mode: LEARN` normalises by the batch in deployment, too; for weights with folded statistics, as the "
        "authors publish them, set `INFERENCE`.",
        inputs={"data": (1, 3, 360, 480)},
        data=sources.lists("DenseImageData", "CamVid/train.txt", "CamVid/test.txt", (4, 1), ""),
        solver="test_iter: 233\ntest_interval: 1000\ntest_initialization: false\nbase_lr: 0.1\nmomentum: 0.9\n"
        'weight_decay: 0.0005\nlr_policy: "fixed"\nmax_iter: 40000\naverage_loss: 20\ndisplay: 20\nsnapshot: 1000\n',
        reads="Colour pictures of 480 x 360, BGR, 0..255, and masks of their pixels' classes, 11 where nothing "
        "counts, as "
        "listed in `CamVid/train.txt` and `CamVid/test.txt`.",
    ),
]  # fmt: skip

DIGITS = {"inputs": {"data": (1, 1, 28, 28)}}
INV = 'lr_policy: "inv"\ngamma: 0.0001\npower: 0.75'


def embedding(
    name: str, title: str, script: str, body, what: str, paper: str, source: str, tops: tuple[str, ...], runs: str
) -> Made:
    return Made(
        name=f"mnist_{name}", title=title, task="embedding", records=60000, body=body, what=what, paper=paper,
        source=source,
        data=sources.pair(
            "Data", tops,
            ("scale: 0.00390625", sources.database(f"models/mnist_{name}/train_lmdb", 64)),
            ("scale: 0.00390625", sources.database(f"models/mnist_{name}/test_lmdb", 100)),
        ),
        solver=f"test_iter: 100\ntest_interval: 500\nbase_lr: 0.01\nmomentum: 0.9\nweight_decay: 0\n{INV}\n"
        "max_iter: 1500\naverage_loss: 100\ndisplay: 100\nrandom_seed: 1\nsolver_mode: CPU\n",
        reads=f"Grey pictures of 28 x 28, 0..255, divided by 256. Records have several digits, one a channel; "
        f"`{script}` writes them from MNIST's files:\n\n"
        f"    python models/mnist_{name}/{script} train-images-idx3-ubyte.gz train-labels-idx1-ubyte.gz "
        f"models/mnist_{name}/train_lmdb\n"
        f"    python models/mnist_{name}/{script} t10k-images-idx3-ubyte.gz t10k-labels-idx1-ubyte.gz "
        f"models/mnist_{name}/test_lmdb",
        runs=runs, **DIGITS,
    )  # fmt: skip


EMBEDDINGS = [
    embedding(
        "siamese", "Siamese MNIST", "pairs.py", mnist.siamese,
        "LeNet twice, with the same weights: two numbers a digit, near for pairs of one class, apart for others.",
        "R. Hadsell, S. Chopra, Y. LeCun. Dimensionality Reduction by Learning an Invariant Mapping. CVPR 2006.",
        "Caffe's example `siamese`, layer by layer; a shorter recipe.", ("pair_data", "sim"),
        "All of MNIST, 1,500 iterations: the contrastive loss of the test pairs falls from 0.1416 to 0.0508 after 500, "
        "0.0424 after 1,000 and 0.0395; 2026-11-30.",
    ),
    embedding(
        "triplet", "Triplet MNIST", "triplets.py", mnist.triplet,
        "LeNet three times, with the same weights: two numbers a digit, nearer to another of its class than to "
        "one of "
        "another, by a margin.",
        "F. Schroff, D. Kalenichenko, J. Philbin. FaceNet: A Unified Embedding for Face Recognition and Clustering. "
        "CVPR 2015, arXiv:1503.03832.",
        "the net of `mnist_siamese`, with layer `TripletLoss`.", ("triplet_data",),
        "None yet. A test runs it forward and backward on small input.",
    ),
    Made(
        name="mnist_autoencoder", title="MNIST autoencoder", task="reconstruction", records=60000,
        body=mnist.autoencoder,
        what="784 pixels to 30 numbers and back, through sigmoids.",
        paper="G. E. Hinton, R. R. Salakhutdinov. Reducing the Dimensionality of Data with Neural Networks. "
        "Science 313, 2006.",
        source="Caffe's `mnist_autoencoder`, layer by layer; the recipe is shorter, with Adam.",
        data=sources.pair(
            "Data", ("data",),
            ("scale: 0.0039215684", sources.database("models/lenet/mnist_full_train_lmdb", 100)),
            ("scale: 0.0039215684", sources.database("models/lenet/mnist_full_test_lmdb", 100)),
        ),
        solver="test_iter: 100\ntest_interval: 1000\n" + ADAM.format(0.001)
        + f"weight_decay: 0\n{steps(2400)}\nmax_iter: 3000\naverage_loss: 100\ndisplay: 200\n"
        "random_seed: 1\nsolver_mode: CPU\n",
        reads="Grey pictures of 28 x 28, 0..255, divided by 255. `models/lenet/README.md` says how MNIST's "
        "databases, which "
        "it reads, are made.",
        runs="All of MNIST, not to its end: after 2,000 of the 3,000 iterations the cross entropy of the test digits "
        "has fallen from 967.8 to 77.0, half their squared error from 138.9 to 4.63; 2026-11-30.",
        **DIGITS,
    ),
]  # fmt: skip

ALL = [*CLASSIFIERS, *DETECTORS, *SEGMENTERS, *EMBEDDINGS]
