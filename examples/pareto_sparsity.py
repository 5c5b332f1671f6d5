"""How few of a network's random weights still solve a task? The front of reward against sparsity, in one run.

A search by continuation finds a policy with 1/10 of the weights of a frozen random network, and follows it down to
1/500. The best policies along the way are tested on fresh episodes, drawn, and saved as files of about a kilobyte. The
smallest policy that solves the task also gets a video, a picture with its formula, and a C header.

    python examples/pareto_sparsity.py                       # LunarLander, continuous; about a minute
    python examples/pareto_sparsity.py --env CartPole-v1 --budget 300000
    python examples/pareto_sparsity.py --algorithm nsga2 --budget 8000000   # NSGA-II with operators of this package

Ctrl-C ends the search early and saves its results. After that, or after a kill, the same command with --resume
continues from the last checkpoint with identical results. So does a finished search with a larger --budget.
"""

from __future__ import annotations

import argparse
import json
import os
from pathlib import Path

os.environ.setdefault("EVOTORCH_VERBOSE_LEVEL", "0")
os.environ.setdefault("OMP_WAIT_POLICY", "passive")  # PyTorch's idle threads leave the CPUs to the simulator

import matplotlib

matplotlib.use("Agg")
from rich.console import Console

from algorithms import resume
from subnet_problems import MaskedGymProblem
from subnet_problems.experiments import pareto_search


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--env", default="LunarLander-v3", help="Gymnasium id (%(default)s)")
    parser.add_argument("--env-config", type=json.loads, help="JSON; for LunarLander-v3 '{\"continuous\": true}'")
    parser.add_argument("--hidden-sizes", type=int, nargs="+", default=[87, 87], help="hidden layers (%(default)s)")
    parser.add_argument("--algorithm", choices=list(pareto_search.FRONT_SEARCHES), default="continuation")
    parser.add_argument("--budget", type=int, default=1_600_000, help="environment steps (%(default)s)")
    parser.add_argument("--min-sparsity", type=float, help="minimum sparsity of the front (0.9; for NSGA-II 0)")
    parser.add_argument("--max-sparsity", type=float, help="maximum sparsity of the front (0.998; for NSGA-II 0.99)")
    parser.add_argument("--popsize", type=int, help="individuals per generation (64; for NSGA-II 24 survivors)")
    parser.add_argument("--num-episodes", type=int, default=1, help="episodes per evaluation (%(default)s)")
    parser.add_argument("--episode-length", type=int, help="maximum steps of an episode in the search")
    parser.add_argument("--weight-gain", type=float, default=0.7, help="factor on the weights (%(default)s)")
    parser.add_argument(
        "--min-reward", type=float, help="reward that a policy must earn (default: the task's threshold)"
    )
    parser.add_argument("--seed", type=int, default=0, help="seed of the network and the search (%(default)s)")
    parser.add_argument("--test-episodes", type=int, default=100, help="episodes per test (%(default)s)")
    parser.add_argument("--test-seed", type=int, default=12345, help="seed of the tests (%(default)s)")
    parser.add_argument("--output", type=Path, default=Path("results/pareto_sparsity"), help="folder (%(default)s)")
    parser.add_argument("--quick", action="store_true", help="a short run to check that everything works")
    parser.add_argument("--resume", action="store_true", help="continue the run in this folder")
    args = parser.parse_args()
    if args.test_episodes < 2 or args.budget < 1:
        parser.error("expected --budget of at least 1 and --test-episodes of at least 2")
    if args.quick:
        args.budget, args.popsize, args.test_episodes = min(args.budget, 20_000), 8, 5
    is_lander = args.env == "LunarLander-v3"
    if args.env_config is None:
        args.env_config = {"continuous": True} if is_lander else {}
    if args.episode_length is None and is_lander:
        args.episode_length = 400  # landers that fly longer do not land
    return args


def main() -> None:
    args, console = parse(), Console()
    try:
        if args.resume:
            algorithm = resume(args.output / "checkpoint", allow_pickle=True)
        else:
            preset = pareto_search.FRONT_SEARCHES[args.algorithm]
            masked = MaskedGymProblem(
                args.env, env_config=args.env_config, hidden_sizes=tuple(args.hidden_sizes),
                mask_rule=preset.mask_rule, weight_gain=args.weight_gain,
                num_episodes=args.num_episodes, episode_length=args.episode_length,
                common_random_numbers=preset.common_random_numbers, network_seed=args.seed, seed=args.seed,
            )  # fmt: skip
            algorithm = pareto_search.begin(
                masked, args.output, algorithm=args.algorithm, popsize=args.popsize, seed=args.seed,
                min_sparsity=args.min_sparsity, max_sparsity=args.max_sparsity,
            )  # fmt: skip
    except (FileExistsError, FileNotFoundError) as error:
        how = "--resume continues a run, a finished one with a larger --budget; --output selects another folder"
        raise SystemExit(f"{error}\n({how})") from None
    except (TypeError, ValueError, OSError) as error:
        raise SystemExit(f"{error}") from None
    masked = algorithm.problem.masked
    console.print(f"{masked.task.name}, {masked.network.num_weights:,} frozen weights, simulator: {masked.backend}")
    found, stopped = pareto_search.run(
        algorithm, args.output, budget=args.budget, min_reward=args.min_reward, test_episodes=args.test_episodes,
        test_seed=args.test_seed, console=console,
    )  # fmt: skip
    if found:
        console.print(f"Table, pictures and policies are in {args.output}. To load one:")
        path = f"{args.output}/policies/{found[0].subnet.num_active}_weights.safetensors"
        console.print(f"    Subnetwork.load('{path}')")
    if stopped:
        raise SystemExit(130)


if __name__ == "__main__":
    main()
