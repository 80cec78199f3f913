"""The C structs of source/abi.h, field by field. Knows layouts and codes, nothing else."""

from ctypes import POINTER, Structure, c_double, c_float, c_int32, c_void_p
from enum import IntEnum

PANEL = 32  # columns packed together


class Scheme(IntEnum):
    FLOAT32 = 0
    BFLOAT16 = 1
    INT8 = 2
    INT8_WEIGHT = 3
    INT4_WEIGHT = 4
    INT4 = 5


class KvType(IntEnum):
    FLOAT32 = 0
    BFLOAT16 = 1
    INT8 = 2


class EmbeddingKind(IntEnum):
    ROWS_FLOAT32 = 0
    ROWS_BFLOAT16 = 1
    FROM_HEAD = 2


class LinearStruct(Structure):
    _fields_ = (
        ("weights", c_void_p),
        ("scales", c_void_p),
        ("sums", c_void_p),
        ("bias", c_void_p),
        ("scheme", c_int32),
        ("inner", c_int32),
        ("outer", c_int32),
        ("rotated", c_int32),
        ("paired", c_int32),
    )


class LayerStruct(Structure):
    _fields_ = (
        ("qkv", LinearStruct),
        ("output", LinearStruct),
        ("gate_up", LinearStruct),
        ("down", LinearStruct),
        ("attention_norm", c_void_p),
        ("mlp_norm", c_void_p),
        ("q_norm", c_void_p),
        ("k_norm", c_void_p),
        ("window", c_int32),
    )


class ModelStruct(Structure):
    _fields_ = (
        ("layers", POINTER(LayerStruct)),
        ("head", LinearStruct),
        ("final_norm", c_void_p),
        ("frequencies", c_void_p),
        ("embedding", c_void_p),
        ("embedding_kind", c_int32),
        ("layer_count", c_int32),
        ("vocab_size", c_int32),
        ("hidden_size", c_int32),
        ("mlp_size", c_int32),
        ("heads", c_int32),
        ("kv_heads", c_int32),
        ("head_size", c_int32),
        ("norm_epsilon", c_float),
    )


class StepStruct(Structure):
    _fields_ = (
        ("tokens", c_void_p),
        ("starts", c_void_p),
        ("lengths", c_void_p),
        ("tables", c_void_p),
        ("table_offsets", c_void_p),
        ("cache", c_void_p),
        ("draws", c_void_p),
        ("hidden", c_void_p),
        ("logits", c_void_p),
        ("likeliest", c_void_p),
        ("finite", c_void_p),
        ("seconds", POINTER(c_double)),
        ("rows", c_int32),
        ("sequences", c_int32),
        ("kv_type", c_int32),
        ("block_count", c_int32),
        ("block_size", c_int32),
        ("drawn", c_int32),
        ("logits_stride", c_int32),
        ("alone", c_int32),
        ("stands_back", c_int32),
    )
