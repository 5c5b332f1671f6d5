"""Films of a policy at work."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import gymnasium as gym
from evotorch.neuroevolution.net.statefulmodule import ensure_stateful
from gymnasium.wrappers import RecordVideo
from PIL import Image

from ._checks import check_path, check_seed
from ._episode import play_episode
from .subnetwork import Subnetwork
from .task import EnvLike, GymTask

#: The most pictures a second of a GIF.
_GIF_FPS = 25


def record_video(subnet: Subnetwork, env: EnvLike | GymTask | None, path: str | Path, *, seed: int = 0) -> Path:
    """Film one episode, from its first picture to its last.

    Args:
        subnet: The policy.
        env: The task, or a problem's ``task``; None for the one that the subnetwork knows.
        path: The film. ``.mp4`` is written by Gymnasium's own recorder, which needs the package moviepy; ``.gif`` has
            at most 25 pictures for each second of the simulation.
        seed: The seed that the environment is reset with.

    Returns:
        The path.

    Raises:
        TypeError: An argument has the wrong type.
        ValueError: No task is known, it is not that of the policy, it cannot be drawn, or the suffix is neither.
        EvaluationError: The environment raised, or returned something that is not finite or not what it should be.
        OSError: The file cannot be written.
        gymnasium.error.DependencyNotInstalled: moviepy is missing, or what the task draws with.
    """
    if not isinstance(subnet, Subnetwork):
        raise TypeError(f"subnet: expected a Subnetwork, got {subnet!r}")
    path = check_path("path", path)
    if path.suffix not in (".mp4", ".gif"):
        raise ValueError(f"path: expected a name that ends in .mp4 or .gif, got {str(path)!r}")
    seed = check_seed("seed", seed)
    task = subnet.task(env)
    try:
        world = task.make_env(render_mode="rgb_array")
    except TypeError as error:
        raise ValueError(f"env: expected one that takes render_mode='rgb_array', got {task.env!r}: {error}") from error
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.suffix == ".gif":
        _film(world, subnet, task, seed, path)
        return path
    with tempfile.TemporaryDirectory(dir=path.parent) as folder:
        with closing(RecordVideo(world, f"{folder}/film", episode_trigger=lambda _: True)) as recorder:
            for _ in _play(recorder, subnet, task, seed):
                pass
        next(Path(folder, "film").glob("*.mp4")).replace(path)
    return path


def _film(world: gym.Env[Any, Any], subnet: Subnetwork, task: GymTask, seed: int, path: Path) -> None:
    """A GIF, whose colours are reduced picture by picture: an episode of raw ones would fill the memory."""
    fps = world.metadata.get("render_fps", _GIF_FPS)
    every = max(1.0, fps / _GIF_FPS)
    pictures: list[Image.Image] = []
    with closing(world):
        for number, _ in enumerate(_play(world, subnet, task, seed)):
            if number >= len(pictures) * every:
                frame: Any = world.render()
                pictures.append(Image.fromarray(frame).quantize(64))
    duration = 10 * round(100 * every / fps)  # GIF counts hundredths of a second
    pictures[0].save(path, save_all=True, append_images=pictures[1:], duration=duration, loop=0, optimize=True)


def _play(env: gym.Env[Any, Any], subnet: Subnetwork, task: GymTask, seed: int) -> Iterator[float]:
    """One episode; it pauses after the reset and after each step."""
    return play_episode(
        env, ensure_stateful(subnet.to_policy()), observations=task.observations, actions=subnet.actions,
        max_steps=task.max_steps, seed=seed,
    )  # fmt: skip
