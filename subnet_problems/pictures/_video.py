"""Films of a policy at work."""

from __future__ import annotations

import os
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

#: The most pictures a second of a GIF.
_GIF_FPS = 25
#: Pictures a second where the environment does not say how many, as Gymnasium's recorder has it.
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
    """Film one episode. The file appears whole or not at all.

    Args:
        subnet: The policy.
        env: The task, or a problem's ``task``; None for the one that the subnetwork knows. Its ``render`` gives
            pictures of one size, ``(H, W)``, ``(H, W, 1)``, ``(H, W, 3)`` or ``(H, W, 4)``, of whole numbers from 0 to
            255. Its ``metadata["render_fps"]`` is how many there are a second; 30 where it does not say.
        path: The film. ``.mp4`` needs the package moviepy; ``.gif`` has at most 25 pictures for each second of the
            simulation.
        env_config: See ``Subnetwork.make_task``.
        episode_length: See ``Subnetwork.make_task``.
        seed: The seed that the environment is reset with.

    Returns:
        The path.

    Raises:
        TypeError: An argument has the wrong type.
        ValueError: See ``Subnetwork.make_task``; or the task cannot be drawn, or the suffix is neither.
        OSError: The file cannot be written.
        EvaluationError: The environment raised, or returned something that is not finite or not what it should be.
        ImportError: The film is an ``.mp4`` and moviepy is missing (``pip install subnet-problems[video]``).
        gymnasium.error.DependencyNotInstalled: What the task draws with is missing.
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
                "path: a film .mp4 needs the package moviepy (pip install subnet-problems[video]), and .gif does not: "
                f"{error}"
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
                f"env: expected one that takes render_mode='rgb_array', got {task.env!r}: {reason_of(error)}"
            ) from error
        with closing(world):
            film = _Film(world, subnet, task, seed)
            (_write_gif if is_gif else _write_mp4)(film, path)
    return path


class _Film:
    """The pictures of one episode.

    Args:
        world: The environment.
        subnet: The policy.
        task: What it plays.
        seed: The seed that the environment is reset with.

    Attributes:
        fps: Pictures a second.

    Raises:
        ValueError: The environment's number of pictures a second is no number above 0.
    """

    def __init__(self, world: gym.Env[Any, Any], subnet: Subnetwork, task: GymTask, seed: int) -> None:
        fps = world.metadata.get("render_fps")
        fps = _USUAL_FPS if fps is None else fps
        if not isinstance(fps, Real) or isinstance(fps, bool) or not 0.0 < float(fps) < np.inf:
            raise ValueError(f"env: expected metadata['render_fps'] to be a number above 0, got {fps!r}")
        self.fps = float(fps)
        self._world, self._subnet, self._task, self._seed = world, subnet, task, seed

    def pictures(self, *, every: float = 1.0) -> Iterator[NDArray[np.uint8]]:
        """Pictures ``(H, W, 3)``, the caller's own: of the beginning and of each step, or of one in ``every`` of them.

        Raises:
            EvaluationError: The environment raised, or returned something that is not finite.
            ValueError: What it draws are no pictures of one size.
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
                raise ValueError(f"env: expected pictures of one size, got {size[:2]} and {picture.shape[:2]}")
            count, size = count + 1, picture.shape
            yield picture

    def _draw(self, step: int) -> NDArray[np.uint8]:
        try:
            frame: Any = self._world.render()
        except gym.error.DependencyNotInstalled:
            raise
        except Exception as error:
            raise EvaluationError(0, 0, step, f"the environment's render raised {error!r}") from error
        if isinstance(frame, list) and frame:  # of render_mode="rgb_array_list": those since the last call
            frame = frame[-1]
        return _picture(frame)


def _picture(frame: Any) -> NDArray[np.uint8]:
    """What an environment drew, as ``(H, W, 3)``.

    Raises:
        ValueError: It is no picture.
    """
    expected = "env: expected pictures of shape (H, W), (H, W, 1), (H, W, 3) or (H, W, 4) of whole numbers up to 255"
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
    """A GIF, whose colors are reduced picture by picture: an episode of raw ones would fill the memory."""
    every = max(1.0, film.fps / _GIF_FPS)
    pictures = [Image.fromarray(picture).quantize(64) for picture in film.pictures(every=every)]
    # GIF counts hundredths of a second, in 16 bits: pictures take turns in being shown a little longer.
    times = [round(100 * number * every / film.fps) for number in range(len(pictures) + 1)]
    durations = [10 * min(end - begin, 65_535) for begin, end in pairwise(times)]
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        with whole_file(path) as temporary:
            pictures[0].save(
                temporary, "gif", save_all=True, append_images=pictures[1:], duration=durations, loop=0, optimize=True
            )
    except OverflowError as error:  # Pillow joins equal pictures, and a GIF shows none for longer than 655 seconds
        raise ValueError(f"path: expected .mp4 for a picture that stays so long, got {str(path)!r}") from error


def _write_mp4(film: _Film, path: Path) -> None:
    """An MP4, by Gymnasium's own writer of films."""
    from gymnasium.utils.save_video import save_video  # it needs moviepy

    pictures = list(film.pictures())
    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=path.parent) as folder:
        save_video(pictures, folder, episode_trigger=lambda _: True, fps=film.fps)
        written = next(Path(folder).glob("*.mp4"), None)
        if written is None:
            raise ValueError(f"env: expected metadata['render_fps'] that a film .mp4 can have, got {film.fps:g}")
        with whole_file(path) as temporary:
            written.replace(temporary)


@contextmanager
def _quiet_search_for_a_screen(folder: str) -> Iterator[None]:
    """Where there is no XDG_RUNTIME_DIR, SDL's search for a screen, which no film needs, complains to stderr."""
    if "XDG_RUNTIME_DIR" in os.environ:
        yield
        return
    os.environ["XDG_RUNTIME_DIR"] = folder
    try:
        yield
    finally:
        del os.environ["XDG_RUNTIME_DIR"]
