"""One notebook, executed by papermill in a process of its own: the order comes on stdin."""

import json
import os
import sys
import time
from collections.abc import Mapping
from pathlib import Path

import nbformat

from irlib import store
from irlib.reproduce import copies
from irlib.store import provenance, sources


def execute(order: Mapping) -> None:
    """Run one notebook by papermill, in its own folder, and put time and commit into its copy."""
    from papermill import execute_notebook
    from traitlets.config import Config

    config = Config()
    config.KernelManager.transport_encryption = "auto"  # else ipykernel warns in every copy
    notebook = Path(order["notebook"])
    os.environ["IRLIB_CODE"] = provenance.fingerprint(sources.code_of(notebook))
    started = time.strftime("%Y-%m-%dT%H:%M:%S%z")
    done = execute_notebook(
        str(notebook),
        order["copy"],
        parameters=order["parameters"],
        kernel_name="python3",
        cwd=str(notebook.parent),
        progress_bar=False,
        config=config,
    )
    done.metadata["irlib"] = {"started": started, "commit": copies.commit()}
    store.write(Path(order["copy"]), nbformat.writes(done).encode())


if __name__ == "__main__":
    execute(json.loads(sys.stdin.read()))
