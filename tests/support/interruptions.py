"""Helpers to interrupt searches, and to compare their folders."""

from subnet_problems import GymProblem


def stop_at(patch, steps):
    """Raise KeyboardInterrupt once, in the first evaluation after ``steps`` environment steps."""
    whole, stopped = GymProblem._run_round, []

    def play(problem, payload):
        if problem.interaction_count >= steps and not stopped:
            stopped.append(True)
            raise KeyboardInterrupt
        return whole(problem, payload)

    patch.setattr(GymProblem, "_run_round", play)


def contents(folder):
    return {
        path.relative_to(folder): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file() and path.suffix in (".csv", ".safetensors", ".h")
    }
