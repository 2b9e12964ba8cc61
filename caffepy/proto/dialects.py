"""What Caffe's forks call things that this Caffe does not know by that name: tables for `proto/foreign.py`.

Forks: BVLC's pull requests, DeepLab, PSPNet, SegNet, NVIDIA's, Intel's, MyCaffe, soeaver's.
"""

from __future__ import annotations

from typing import NamedTuple


class Foreign(NamedTuple):
    """A field, or a value, of another Caffe that is read but not acted upon."""

    does: str = ""
    """What it would change here, as the end of a sentence; empty where that is nothing."""
    harmless: str = ""
    """Values with which it changes nothing, in lower case and separated by blanks."""

    def matters(self, value: str) -> bool:
        return bool(self.does) and value.strip("\"'").lower() not in self.harmless.split()


NOTHING = Foreign()
NEVER_MATTER = ("cudnn_",)
"""How names of fields begin that change nothing in any message."""

_AUGMENT = "changes the pictures, see brightness, contrast, saturation, min_crop_area and erase for what can be had"
_LSTM = "gives another recurrent layer than Caffe's"
_RL = "belongs to MyCaffe's reinforcement learning"

# Of each message, the fields that it does not have here.
FIELDS: dict[str, dict[str, Foreign]] = {
    "LayerParameter": {
        "freeze_learning": NOTHING,
        "engine": NOTHING,  # Intel
        "forward_type": NOTHING,  # NVIDIA: number formats
        "backward_type": NOTHING,
        "forward_math": NOTHING,
        "backward_math": NOTHING,
        "debug": NOTHING,
        "trt_param": NOTHING,
        "mish_param": NOTHING,
        "max_bottom_count": Foreign("leaves out bottoms in some phase"),
    },
    "NetParameter": {
        "default_forward_type": NOTHING,
        "default_backward_type": NOTHING,
        "default_forward_math": NOTHING,
        "default_backward_math": NOTHING,
        "global_grad_scale": NOTHING,
        "engine": NOTHING,
        "model_ver": NOTHING,
    },
    "TransformationParameter": {
        "color_order": NOTHING,
        "use_imagedb_mean": Foreign("subtracts a mean from MyCaffe's database: use mean_file or mean_value", "false"),
        "use_image_mean": Foreign("subtracts a mean from MyCaffe's database: use mean_file or mean_value", "false"),
        "mask_param": Foreign("masks a part of each picture"),
        "label_mapping": Foreign("exchanges labels"),
        "crop_width": Foreign("crops to a rectangle, here crop_w does"),
        "crop_height": Foreign("crops to a rectangle, here crop_h does"),
        "use_gpu_transform": NOTHING,  # NVIDIA
        "random_seed": NOTHING,
        "forward_packing": NOTHING,
        "display": NOTHING,
        "interpolation_algo_up": NOTHING,
        "interpolation_algo_down": NOTHING,
        "img_rand_resize_lower": Foreign(_AUGMENT, "0"),
        "img_rand_resize_upper": Foreign(_AUGMENT, "0"),
        "rand_resize_ratio_lower": Foreign(_AUGMENT, "1"),
        "rand_resize_ratio_upper": Foreign(_AUGMENT, "1"),
        "vertical_stretch_lower": Foreign(_AUGMENT, "1"),
        "vertical_stretch_upper": Foreign(_AUGMENT, "1"),
        "allow_upscale": Foreign(_AUGMENT, "false"),
    },
    "DistortionParameter": {"active": Foreign("switches it", "true"), "use_gpu": NOTHING, "random_seed": NOTHING},
    "ExpansionParameter": {"active": Foreign("switches it", "true")},
    "NoiseParameter": {"active": Foreign("switches it", "true")},
    "ResizeParameter": {"active": Foreign("switches it", "true")},
    "DataParameter": {
        "parser_threads": NOTHING,  # NVIDIA
        "cache": NOTHING,
        "images_per_blob": Foreign("gives several pictures an item", "1"),
        "output_all_labels": Foreign("gives a label for each picture of an item", "false"),
        "balance_matches": Foreign("chooses pairs", "false"),
        "label_type": Foreign("gives other labels", "single"),
        "synchronize_target": NOTHING,
        "display_timing": NOTHING,
        "enable_pair_selection": Foreign("chooses pairs", "false"),
    },
    "MemoryDataParameter": {
        "label_channels": Foreign("shapes the labels", "1"),
        "label_height": Foreign("shapes the labels", "1"),
        "label_width": Foreign("shapes the labels", "1"),
        "label_type": Foreign("gives no labels", "single"),
    },
    "SolverParameter": {
        "snapshot_include_weights": NOTHING,
        "snapshot_include_state": NOTHING,
        "enable_clip_gradient_status": NOTHING,
        "accuracy_average_window": NOTHING,
        "output_average_results": NOTHING,
        "show_per_class_result": NOTHING,
        "eval_type": Foreign("tests by boxes", "classification"),
        "ap_version": NOTHING,
        "adamw_decay": Foreign(
            "decays weights apart from gradients: set weight_decay, decoupled_weight_decay: true", "0"
        ),
        "custom_trainer": Foreign(_RL),
        "custom_trainer_properties": Foreign(_RL),
        "test_epoch_size": Foreign("sets the length of a test: use test_iter"),  # NVIDIA
        "test_interval_epoch": Foreign("sets when to test: use test_interval"),
        "max_epoch": Foreign("sets how long to train: use max_iter"),
        "epoch_size": NOTHING,
        "rampup_interval": Foreign("warms the rate up: use warmup_iter", "0"),
        "rampup_lr": Foreign("warms the rate up: use warmup_factor"),
        "global_grad_scale": NOTHING,
        "store_blobs_in_old_format": NOTHING,
        "local_lr_auto": Foreign("sets a rate for each layer", "false"),
    },
    "RecurrentParameter": {
        "engine": NOTHING,
        "dropout_seed": NOTHING,
        "use_cudnn_rnn8_if_supported": NOTHING,
        "dropout_ratio": Foreign(_LSTM, "0"),
        "bidirectional": Foreign(_LSTM, "false"),
        "batch_first": Foreign(_LSTM, "false"),
        "expose_hidden_input": Foreign(_LSTM, "false"),
        "expose_hidden_output": Foreign(_LSTM, "false"),
        "auto_repeat_hidden_states_across_layers": Foreign(_LSTM, "false"),
    },
    "AccuracyParameter": {"enable_simple_accuracy": NOTHING},
    "BatchNormParameter": {"engine": NOTHING},
    "BNParameter": {"engine": NOTHING},
    "ContrastiveLossParameter": {"output_matches": Foreign("adds a top", "false")},
    "ConvolutionParameter": {"conv_algos_override": NOTHING},
    "DropoutParameter": {"seed": NOTHING, "active": Foreign("switches it off", "true"), "engine": NOTHING},
    "EltwiseParameter": {"allow_single_batch_input": Foreign("spreads a bottom of one item", "false")},
    "InnerProductParameter": {
        "enable_noise": Foreign("adds noise to the weights", "false"),
        "sigma_init": NOTHING,
        "output_contains_predictions": NOTHING,
        "min_top_axes": Foreign("adds axes to the top", "1 2"),
        "engine": NOTHING,
    },
    "InterpParameter": {"interp_type": Foreign("interpolates otherwise", "bilinear")},
    "LayerNormParameter": {"enable_cuda_impl": NOTHING},
    "GELUParameter": {"engine": NOTHING},
    "LossParameter": {
        "loss_scale": Foreign("scales the loss: use loss_weight", "1"),
    },
    "PoolingParameter": {"torch_pooling": NOTHING},
    "SoftmaxParameter": {
        "algorithm": Foreign("gives logarithms", "default fast accurate"),
        "algorithm_train": Foreign("gives logarithms", "default fast accurate"),
    },
}

# Fields, and what they are called here. A name that this schema does not have either is left to FIELDS.
RENAMED = {
    "LayerParameter": {"normalization2_param": "norm_param", "multiboxloss_param": "multibox_loss_param"},
    "TransformationParameter": {"distortion_param": "distort_param", "expansion_param": "expand_param"},
    "NormalizeParameter": {"esp": "eps"},
    "CTCLossParameter": {"blank_index": "blank_label"},
    "ConvolutionParameter": {"hole": "dilation"},  # DeepLab
    "DataParameter": {"enable_random_selection": "shuffle"},
    "UnpoolingParameter": {"pool": "unpool"},
}

# Layer types that are others under another name.
TYPES = {
    "Lstm": "LSTM",
    "Normalization2": "Normalize",
    "CtcLoss": "CTCLoss",
    "WarpCtcLoss": "CTCLoss",
    "WarpCTCLoss": "CTCLoss",
}


# Types that forks added to V1 layers (`layers { type: ROI_POOLING }`).
V1_TYPES = {
    "BATCH_NORM": "BatchNorm",
    "BN": "BN",
    "CENTER_LOSS": "CenterLoss",
    "DENSE_CRF": "DenseCRF",
    "DENSE_IMAGE_DATA": "DenseImageData",
    "DOMAIN_TRANSFORM": "DomainTransform",
    "IMAGE_SEG_DATA": "ImageSegData",
    "INTERP": "Interp",
    "MAT_READ": "MatRead",
    "MAT_WRITE": "MatWrite",
    "NORMALIZE": "Normalize",
    "PERMUTE": "Permute",
    "PRELU": "PReLU",
    "PYTHON": "Python",
    "RESHAPE": "Reshape",
    "ROI_POOLING": "ROIPooling",
    "SCALE": "Scale",
    "SEG_ACCURACY": "SegAccuracy",
    "SMOOTH_L1_LOSS": "SmoothL1Loss",
    "SPP": "SPP",
    "TRIPLET_LOSS": "TripletLoss",
    "UNIQUE_LABEL": "UniqueLabel",
    "UNPOOLING": "Unpooling",
    "UPSAMPLE": "Upsample",
}


class Value(NamedTuple):
    """What is taken for a value of another Caffe's enum, and whether a warning says so."""

    here: str
    named: bool = True


# Of each enum, values that it does not have here.
VALUES = {
    "Phase": {"RUN": Value("TEST", named=False)},  # MyCaffe's third phase, for deploying
    "Engine": {"MKL2017": Value("DEFAULT"), "MKLDNN": Value("DEFAULT")},  # Intel
    "DB": {"IMAGEDB": Value("LMDB")},  # MyCaffe's SQL database: a folder of that name, if there is one
}

SWITCH = "option"
"""MyCaffe: `option { active: False }` in a message switches all of it off."""

# The types of Caffe itself.
_CAFFE_TYPES = """
    AbsVal Accuracy ArgMax BNLL BatchNorm BatchReindex Bias Clip Concat ContrastiveLoss Convolution Crop Data
    Deconvolution Dropout DummyData ELU Eltwise Embed EuclideanLoss Exp Filter Flatten HDF5Data HDF5Output HingeLoss
    Im2col ImageData InfogainLoss InnerProduct Input LRN LSTM LSTMUnit Log MVN MemoryData MultinomialLogisticLoss PReLU
    Parameter Pooling Power Python RNN ReLU Reduction Reshape SPP Scale Sigmoid SigmoidCrossEntropyLoss Silence Slice
    Softmax SoftmaxWithLoss Split Swish TanH Threshold Tile WindowData"""
CAFFE_TYPES = frozenset(_CAFFE_TYPES.split())

# Types of forks that have no layer here, and whose they are; their own parameters are skipped.
UNKNOWN_TYPES = {
    "MyCaffe": """AccuracyDecode AccuracyEncoding BinaryHash CategoricalTransformation CausalSelfAttention
        ChannelEmbedding Copy DataNormalizer DataSequence DataTemporal Debug Decode GRN GateAddNorm Gather GLU
        GradientScaler GRAM Knn LabelMapping LstmAttention LstmSimple MAELoss MemoryLoss Merge MeanErrorLoss
        MultiHeadAttention MultiheadAttention MultiheadAttentionInterp NLLLoss NumericTransformation OneHot
        PositionalEncoder QuantileAccuracy QuantileLoss ReshapeTemporal Scalar SoftmaxCrossEntropy2Loss
        SoftmaxCrossEntropyLoss Squeeze TokenizedData TokenizedDataPairs Transform TransformerBlock TVLoss Unsqueeze
        VarSelNet""",
    "soeaver's Caffe": "CReLU Flip",
    "DeepLab": "DenseCRF DomainTransform MatRead MatWrite UniqueLabel",
}
_UNKNOWN_PARAMS = """
    categorical_trans_param data_sequence_param data_temporal_param debug_param decode_param gateaddnorm_param
    glu_param grn_param knn_param lstm_attention_param lstm_simple_param multihead_attention_interp_param
    multihead_attention_param nll_loss_param numeric_trans_param quantile_accuracy_param quantile_loss_param
    reshape_temporal_param tokenized_data_param tokenized_data_pairs_param transformer_block_param
    causal_self_attention_param varselnet_param dense_crf_param domain_transform_param mat_read_param mat_write_param
    unique_label_param adaptive_bias_channel_param bias_channel_param gather_param gradient_scale_param gram_param
    mae_loss_param merge_param onehot_param positional_encoder_param scalar_param transpose_param tv_loss_param
    data_normalizer_param binary_hash_param label_mapping_param memory_loss_param"""
UNKNOWN_PARAMS = frozenset(_UNKNOWN_PARAMS.split())
"""Parameters of layers of those types."""


def whose(layer_type: str) -> str:
    """The fork that has a layer type that is none here, or nothing."""
    return next((fork for fork, types in UNKNOWN_TYPES.items() if layer_type in types.split()), "")


# Of layer types, the numbers under which a fork keeps their parameters and Caffe others, and what they are here.
MISPLACED = {
    "BN": {137: "bn_param"},
    "CenterLoss": {147: "center_loss_param"},
    "Interp": {143: "interp_param"},
    "SegAccuracy": {144: "seg_accuracy_param"},
    "Upsample": {137: "upsample_param"},
}
