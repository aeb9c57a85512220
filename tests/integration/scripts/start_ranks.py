"""Starts the ranks of one host as torchrun does, but lives on when one of them dies.

    python start_ranks.py RUN_ID NODE NODES RANKS_A_NODE SCRIPT

torchrun itself ends all ranks then, and starts new ones or gives up; srun does not.
"""

from __future__ import annotations

import os
import subprocess
import sys


def main() -> int:
    """Wait for all ranks; the highest status of theirs."""
    run_id, script = sys.argv[1], sys.argv[5]
    node, nodes, local_size = map(int, sys.argv[2:5])
    ranks = []
    for local_rank in range(local_size):
        variables = {
            "TORCHELASTIC_RUN_ID": run_id,
            "TORCHELASTIC_RESTART_COUNT": "0",
            "MASTER_ADDR": os.environ.get("MASTER_ADDR", "localhost"),
            "MASTER_PORT": os.environ.get("MASTER_PORT", "29500"),
            "RANK": str(node * local_size + local_rank),
            "LOCAL_RANK": str(local_rank),
            "WORLD_SIZE": str(nodes * local_size),
            "LOCAL_WORLD_SIZE": str(local_size),
            "GROUP_RANK": str(node),
            "GROUP_WORLD_SIZE": str(nodes),
        }
        ranks.append(subprocess.Popen([sys.executable, script], env=os.environ | variables))
    return max(rank.wait() for rank in ranks)


if __name__ == "__main__":
    sys.exit(main())
