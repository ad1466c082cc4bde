"""The tiny study on three nodes of a local Ray cluster, one of which is killed: `python tests/ray_study.py OUT DATA`."""

import os
import sys
import threading
import time
from pathlib import Path

from avrobust.study.machines import Machines
from avrobust.study.runner import run
from tiny_study import study

if __name__ == "__main__":
    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
    from ray.cluster_utils import Cluster

    out, data = map(Path, sys.argv[1:3])
    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 0, "include_dashboard": False})
    nodes = [cluster.add_node(num_cpus=1, include_dashboard=False) for _ in range(2)]
    os.environ["RAY_ADDRESS"] = cluster.address
    began = time.monotonic()

    def said(what: str) -> None:
        print(f"{time.monotonic() - began:.1f} s: {what}", flush=True)

    def kill() -> None:
        while not (cells := list(out.glob("cells/[!.]*/rows.parquet"))):
            time.sleep(0.01)
        cluster.remove_node(nodes[0], allow_graceful=False)
        said(f"killed a node after {len(cells)} cells")

    killer = threading.Thread(target=kill)
    killer.start()
    run(study, out, data=data, machines=Machines(on="ray", device="cpu"))
    said("done")
    killer.join()
    cluster.shutdown()
