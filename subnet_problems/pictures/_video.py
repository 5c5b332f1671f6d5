"""Videos of a policy's episodes."""

from __future__ import annotations

import os
import struct
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager
from importlib import import_module
from itertools import pairwise
from numbers import Real
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
from evotorch.neuroevolution.net.statefulmodule import ensure_stateful
from numpy.typing import NDArray
from PIL import Image

from .._checks import check_path, check_seed, reason_of
from .._files import check_file, whole_file
from ..subnetworks._subnetwork import Subnetwork
from ..tasks._episodes import EvaluationError
from ..tasks._gym_task import EnvLike, GymTask
from ..tasks._single_episode import play_episode

#: Maximum frames per second of a GIF.
_GIF_FPS = 25
#: Frames per second if the environment gives none; the same value as in Gymnasium's recorder.
_USUAL_FPS = 30


def record_video(
    subnet: Subnetwork,
    env: EnvLike | GymTask | None,
    path: str | Path,
    *,
    env_config: Mapping[str, Any] | None = None,
    episode_length: int | None = None,
    seed: int = 0,
) -> Path:
    """Record one episode as a video. The file is written atomically.

    Args:
        subnet: The policy.
        env: The environment, or a problem's ``task``; None for the policy's own environment. Its ``render`` must return
            frames of one size, ``(H, W)``, ``(H, W, 1)``, ``(H, W, 3)`` or ``(H, W, 4)``, of whole numbers from 0 to
            255. Its ``metadata["render_fps"]`` is the number of frames per second; 30 if it is missing.
        path: The video file to write, ``.mp4`` or ``.gif``. ``.mp4`` needs the package moviepy. A ``.gif`` has at most
            25 frames per second of the simulation.
        env_config: See ``Subnetwork.make_task``.
        episode_length: See ``Subnetwork.make_task``.
        seed: Seed with which the environment is reset. Default: 0.

    Returns:
        The path.

    Raises:
        TypeError: An argument has the wrong type.
        ValueError: See ``Subnetwork.make_task``; or the environment cannot be rendered, or the suffix is neither.
        OSError: The file cannot be written.
        EvaluationError: The environment raised, or returned a value that is not finite or otherwise invalid.
        ImportError: The suffix is ``.mp4`` and moviepy is missing (``pip install subnet-problems[video]``).
        gymnasium.error.DependencyNotInstalled: A package that the environment needs for rendering is missing.
    """
    if not isinstance(subnet, Subnetwork):
        raise TypeError(f"subnet: expected a Subnetwork, got {subnet!r}")
    path = check_path("path", path)
    if path.suffix.lower() not in (".mp4", ".gif"):
        raise ValueError(f"path: expected a name that ends in .mp4 or .gif, got {str(path)!r}")
    check_file("path", path)
    is_gif = path.suffix.lower() == ".gif"
    if not is_gif:
        try:
            import_module("moviepy")
        except ImportError as error:
            raise ImportError(
                f"path: .mp4 needs the package moviepy (pip install subnet-problems[video]); .gif does not: {error}"
            ) from error
    seed = check_seed("seed", seed)
    task = subnet.make_task(env, env_config=env_config, episode_length=episode_length)
    with tempfile.TemporaryDirectory() as folder, _quiet_search_for_a_screen(folder):
        try:
            world = task.make_env(render_mode="rgb_array")
        except gym.error.DependencyNotInstalled:
            raise
        except Exception as error:
            raise ValueError(
                f"env: expected one that accepts render_mode='rgb_array', got {task.env!r}: {reason_of(error)}"
            ) from error
        with closing(world):
            film = _Film(world, subnet, task, seed)
            (_write_gif if is_gif else _write_mp4)(film, path)
    return path


class _Film:
    """The frames of one episode.

    Args:
        world: The environment.
        subnet: The policy.
        task: The task to play.
        seed: Seed with which the environment is reset.

    Attributes:
        fps: Frames per second.

    Raises:
        ValueError: The environment's ``metadata["render_fps"]`` is not a number above 0.
    """

    def __init__(self, world: gym.Env[Any, Any], subnet: Subnetwork, task: GymTask, seed: int) -> None:
        fps = world.metadata.get("render_fps")
        fps = _USUAL_FPS if fps is None else fps
        if not isinstance(fps, Real) or isinstance(fps, bool) or not 0.0 < float(fps) < np.inf:
            raise ValueError(f"env: expected metadata['render_fps'] to be a number above 0, got {fps!r}")
        self.fps = float(fps)
        self._world, self._subnet, self._task, self._seed = world, subnet, task, seed

    def pictures(self, *, every: float = 1.0) -> Iterator[NDArray[np.uint8]]:
        """Play the episode and yield a frame ``(H, W, 3)`` after the reset and after each step.

        Frames are copies, which the caller may change.

        Args:
            every: Average number of steps per frame, at least 1. Default: 1.

        Raises:
            EvaluationError: The environment raised, or returned a value that is not finite.
            ValueError: ``render`` does not return frames of one size.
        """
        subnet, task = self._subnet, self._task
        episode = play_episode(
            self._world, ensure_stateful(subnet.to_policy(clip_actions=False)), observations=task.observations,
            actions=task.actions, max_steps=task.max_steps, seed=self._seed,
        )  # fmt: skip
        count, size = 0, None
        for step, _ in enumerate(episode):
            if step < count * every:
                continue
            picture = self._draw(step)
            if size is not None and picture.shape != size:
                raise ValueError(f"env: expected frames of one size, got {size[:2]} and {picture.shape[:2]}")
            count, size = count + 1, picture.shape
            yield picture

    def _draw(self, step: int) -> NDArray[np.uint8]:
        try:
            frame: Any = self._world.render()
        except gym.error.DependencyNotInstalled:
            raise
        except Exception as error:
            raise EvaluationError(0, 0, step, f"the environment's render raised {error!r}") from error
        if isinstance(frame, list) and frame:  # render_mode="rgb_array_list": all frames since the last call
            frame = frame[-1]
        return _picture(frame)


def _picture(frame: Any) -> NDArray[np.uint8]:
    """Convert a result of ``render`` to a frame ``(H, W, 3)``.

    Raises:
        ValueError: The result is not a frame.
    """
    expected = "env: expected frames of shape (H, W), (H, W, 1), (H, W, 3) or (H, W, 4) of whole numbers up to 255"
    if not isinstance(frame, np.ndarray):
        raise ValueError(f"{expected} from its render_mode='rgb_array', got {frame!r:.200}")
    if frame.dtype.kind not in "ui" or frame.ndim not in (2, 3) or 0 in frame.shape:
        raise ValueError(f"{expected}, got shape {frame.shape} of {frame.dtype}")
    if frame.ndim == 3 and frame.shape[2] not in (1, 3, 4):
        raise ValueError(f"{expected}, got shape {frame.shape}")
    if frame.dtype != np.uint8 and not 0 <= frame.min() <= frame.max() <= 255:
        raise ValueError(f"{expected}, got one from {frame.min()} to {frame.max()}")
    colors = frame.reshape(*frame.shape[:2], -1)[:, :, :3].astype(np.uint8)
    return np.ascontiguousarray(np.broadcast_to(colors, (*frame.shape[:2], 3)))


def _write_gif(film: _Film, path: Path) -> None:
    """Write a GIF. Colors are reduced frame by frame, because a whole episode of raw frames could exhaust memory."""
    every = max(1.0, film.fps / _GIF_FPS)
    pictures = [Image.fromarray(picture).quantize(64) for picture in film.pictures(every=every)]
    # GIF durations are whole hundredths of a second, in 16 bits. So durations differ slightly, to keep the mean right.
    times = [round(100 * number * every / film.fps) for number in range(len(pictures) + 1)]
    durations = [10 * min(end - begin, 65_535) for begin, end in pairwise(times)]
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        with whole_file(path) as temporary:
            pictures[0].save(
                temporary, "gif", save_all=True, append_images=pictures[1:], duration=durations, loop=0, optimize=True
            )
    except (OverflowError, struct.error) as error:  # Pillow joins equal frames; a GIF frame lasts at most 655 seconds
        raise ValueError(f"path: expected .mp4 for a frame that lasts over 655 seconds, got {str(path)!r}") from error


def _write_mp4(film: _Film, path: Path) -> None:
    """Write an MP4 with Gymnasium's own ``save_video``."""
    from gymnasium.utils.save_video import save_video  # it needs moviepy

    pictures = list(film.pictures())
    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=path.parent) as folder:
        save_video(pictures, folder, episode_trigger=lambda _: True, fps=film.fps)
        written = next(Path(folder).glob("*.mp4"), None)
        if written is None:
            raise ValueError(f"env: expected metadata['render_fps'] that .mp4 supports, got {film.fps:g}")
        with whole_file(path) as temporary:
            written.replace(temporary)


@contextmanager
def _quiet_search_for_a_screen(folder: str) -> Iterator[None]:
    """Set XDG_RUNTIME_DIR if it is missing. Else SDL complains to stderr about a screen, which no video needs."""
    if "XDG_RUNTIME_DIR" in os.environ:
        yield
        return
    os.environ["XDG_RUNTIME_DIR"] = folder
    try:
        yield
    finally:
        del os.environ["XDG_RUNTIME_DIR"]
