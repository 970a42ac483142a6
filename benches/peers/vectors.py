"""Nearest neighbours by libraries that people use today: the peers of benches/src/vectors.

    python vectors.py ENGINE FOLDER METRIC

ENGINE is hnswlib, faiss, usearch or usearch-f16. FOLDER holds rows.f32 and queries.f32 (rows of f32), truth.u32 (the ten nearest
rows of each query) and shape.json (beyond ef_usual, an ef is measured only until recall_most is reached). Prints one line of JSON: CPU seconds of the build, bytes that the process grew by for each
vector, and for each `ef` the recall and the queries a second of CPU of one thread (the best of three).
"""

import json
import os
import sys
import time

import numpy

M = 16
EF_CONSTRUCTION = 200
K = 10
SECONDS = float(os.environ.get("TIDEMILL_BENCH_SECONDS", "0.5"))


def resident():
    with open("/proc/self/statm") as statm:
        return int(statm.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")


class Hnswlib:
    def __init__(self, rows, metric):
        import hnswlib

        space = {"cosine": "ip", "dot": "ip", "l2": "l2"}[metric]
        self.index = hnswlib.Index(space=space, dim=rows.shape[1])
        self.index.init_index(max_elements=len(rows), ef_construction=EF_CONSTRUCTION, M=M)
        self.index.add_items(rows, num_threads=2)
        self.index.set_num_threads(1)

    def search(self, queries, ef):
        self.index.set_ef(ef)
        return self.index.knn_query(queries, k=K, num_threads=1)[0]


class Faiss:
    def __init__(self, rows, metric):
        import faiss

        faiss.omp_set_num_threads(2)
        kind = faiss.METRIC_L2 if metric == "l2" else faiss.METRIC_INNER_PRODUCT
        self.index = faiss.IndexHNSWFlat(rows.shape[1], M, kind)
        self.index.hnsw.efConstruction = EF_CONSTRUCTION
        self.index.add(rows)
        faiss.omp_set_num_threads(1)

    def search(self, queries, ef):
        self.index.hnsw.efSearch = ef
        return self.index.search(queries, K)[1]


class Usearch:
    dtype = "f32"

    def __init__(self, rows, metric):
        from usearch.index import Index

        metric = {"cosine": "ip", "dot": "ip", "l2": "l2sq"}[metric]
        self.index = Index(
            ndim=rows.shape[1], metric=metric, dtype=self.dtype, connectivity=M, expansion_add=EF_CONSTRUCTION
        )
        self.index.add(numpy.arange(len(rows), dtype=numpy.uint64), rows, threads=2)

    def search(self, queries, ef):
        self.index.expansion_search = ef
        return self.index.search(queries, K, threads=1).keys


class UsearchHalf(Usearch):
    dtype = "f16"


ENGINES = {"hnswlib": Hnswlib, "faiss": Faiss, "usearch": Usearch, "usearch-f16": UsearchHalf}


def main():
    engine, folder, metric = sys.argv[1:]
    with open(f"{folder}/shape.json") as shape:
        shape = json.load(shape)
    rows = numpy.fromfile(f"{folder}/rows.f32", dtype="<f4").reshape(-1, shape["dims"])
    queries = numpy.fromfile(f"{folder}/queries.f32", dtype="<f4").reshape(-1, shape["dims"])
    truth = numpy.fromfile(f"{folder}/truth.u32", dtype="<u4").reshape(-1, K)
    before, cpu = resident(), time.process_time()
    index = ENGINES[engine](rows, metric)
    cpu = time.process_time() - cpu
    grown = resident() - before
    points = []
    for ef in shape["efs"]:
        if ef > shape["ef_usual"] and points[-1]["recall"] >= shape["recall_most"]:
            break
        best, found = 0.0, None
        for _ in range(3):
            count, begun = 0, time.process_time()
            while count == 0 or time.process_time() - begun < SECONDS / 3:
                found = index.search(queries, ef)
                count += len(queries)
            best = max(best, count / (time.process_time() - begun))
        hits = sum(len(set(t) & set(f)) for t, f in zip(truth.tolist(), numpy.asarray(found)[: len(truth)].tolist()))
        points.append({"ef": ef, "recall": hits / truth.size, "qps": best})
    print(json.dumps({"build": cpu, "bytes": grown / len(rows), "points": points}))


main()
