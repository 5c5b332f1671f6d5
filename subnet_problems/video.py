"""Films of a policy at work."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from contextlib import closing, contextmanager
from importlib import import_module
from itertools import pairwise
from numbers import Real
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import torch
from gymnasium.wrappers import RecordVideo
from numpy.typing import NDArray
from PIL import Image

from ._checks import check_path, check_seed
from ._files import check_file, whole_file
from .rollout import EvaluationError
from .subnetwork import Subnetwork
from .task import EnvLike, GymTask

#: The most pictures a second of a GIF.
_GIF_FPS = 25
#: Pictures a second where the environment does not say how many, as Gymnasium's recorder has it.
_USUAL_FPS = 30


def record_video(subnet: Subnetwork, env: EnvLike | GymTask | None, path: str | Path, *, seed: int = 0) -> Path:
    """Film one episode, from its first picture to its last. The file appears whole or not at all.

    Args:
        subnet: The policy.
        env: The task, or a problem's ``task``; None for the one that the subnetwork knows. Its ``render`` gives
            pictures of one size, ``(H, W)``, ``(H, W, 1)``, ``(H, W, 3)`` or ``(H, W, 4)``, of whole numbers from 0 to
            255. Its ``metadata["render_fps"]`` is how many there are a second; 30 where it does not say.
        path: The film. ``.mp4`` is written by Gymnasium's own recorder, which needs the package moviepy; ``.gif`` has
            at most 25 pictures for each second of the simulation.
        seed: The seed that the environment is reset with.

    Returns:
        The path.

    Raises:
        TypeError: An argument has the wrong type.
        ValueError: No task is known, it is not that of the policy, it cannot be drawn, or the suffix is neither.
        OSError: The file cannot be written.
        EvaluationError: The environment raised.
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
    task = subnet.task(env)
    with tempfile.TemporaryDirectory() as folder, _quiet_search_for_a_screen(folder):
        try:
            world = task.make_env(render_mode="rgb_array")
        except gym.error.DependencyNotInstalled:
            raise
        except Exception as error:
            raise ValueError(
                f"env: expected one that takes render_mode='rgb_array', got {task.env!r}: {error}"
            ) from error
        with closing(_Camera(world)) as camera:
            (_write_gif if is_gif else _write_mp4)(camera, subnet, task, seed, path)
    return path


class _Camera(gym.Wrapper[Any, Any, Any, Any]):
    """An environment whose pictures are what films are made of, or an error says what they are.

    Raises:
        ValueError: Its pictures a second are no number above 0.
    """

    render_mode = "rgb_array"

    def __init__(self, env: gym.Env[Any, Any]) -> None:
        super().__init__(env)
        self._size: tuple[int, ...] | None = None
        self._step = 0
        self._is_open = True
        fps = env.metadata.get("render_fps")
        fps = _USUAL_FPS if fps is None else fps
        if not isinstance(fps, Real) or isinstance(fps, bool) or not 0.0 < float(fps) < np.inf:
            self.close()
            raise ValueError(f"env: expected metadata['render_fps'] to be a number above 0, got {fps!r}")
        self.fps = float(fps)
        self.metadata = {**env.metadata, "render_fps": self.fps}

    def reset(self, **options: Any) -> tuple[Any, dict[str, Any]]:
        with self._faults_named("reset"):
            return self.env.reset(**options)

    def step(self, action: Any) -> tuple[Any, Any, bool, bool, dict[str, Any]]:
        self._step += 1
        with self._faults_named("step"):
            return self.env.step(action)

    def render(self) -> NDArray[np.uint8]:
        """``(H, W, 3)``, the picture of now, which is the caller's own."""
        with self._faults_named("render"):
            frame: Any = self.env.render()
        if isinstance(frame, list) and frame:  # of render_mode="rgb_array_list": those since the last call
            frame = frame[-1]
        picture = _picture(frame)
        if self._size is not None and picture.shape != self._size:
            raise ValueError(f"env: expected pictures of one size, got {self._size[:2]} and {picture.shape[:2]}")
        self._size = picture.shape
        return picture

    def close(self) -> None:
        if self._is_open:
            self._is_open = False
            self.env.close()

    @contextmanager
    def _faults_named(self, method: str) -> Iterator[None]:
        try:
            yield
        except gym.error.DependencyNotInstalled:
            raise
        except Exception as error:
            raise EvaluationError(0, 0, self._step, f"the environment's {method} raised {error!r}") from error


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


def _write_gif(camera: _Camera, subnet: Subnetwork, task: GymTask, seed: int, path: Path) -> None:
    """A GIF, whose colours are reduced picture by picture: an episode of raw ones would fill the memory."""
    every = max(1.0, camera.fps / _GIF_FPS)
    pictures: list[Image.Image] = []
    for number, _ in enumerate(_play(camera, subnet, task, seed)):
        if number >= len(pictures) * every:
            pictures.append(Image.fromarray(camera.render()).quantize(64))
    # GIF counts hundredths of a second, in 16 bits: pictures take turns in being shown a little longer.
    times = [round(100 * number * every / camera.fps) for number in range(len(pictures) + 1)]
    durations = [10 * min(end - begin, 65_535) for begin, end in pairwise(times)]
    path.parent.mkdir(parents=True, exist_ok=True)
    with whole_file(path) as temporary:
        pictures[0].save(
            temporary, "gif", save_all=True, append_images=pictures[1:], duration=durations, loop=0, optimize=True
        )


def _write_mp4(camera: _Camera, subnet: Subnetwork, task: GymTask, seed: int, path: Path) -> None:
    """An MP4, by Gymnasium's recorder."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=path.parent) as folder:
        recorder: Any = RecordVideo(camera, f"{folder}/film", episode_trigger=lambda _: True)
        try:
            for _ in _play(recorder, subnet, task, seed):
                pass
        except BaseException:
            recorder.recorded_frames.clear()  # it would write them, or complain
            raise
        recorder.close()
        film = next(Path(folder, "film").glob("*.mp4"), None)
        if film is None:
            raise OSError(f"path: Gymnasium's recorder wrote no film {path}, of {camera.fps:g} pictures a second")
        with whole_file(path) as temporary:
            film.replace(temporary)


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


def _play(env: gym.Env[Any, Any], subnet: Subnetwork, task: GymTask, seed: int) -> Iterator[None]:
    """One episode; it pauses after the reset and after each step."""
    policy, state = subnet.to_policy(), None
    obs, _ = env.reset(seed=seed)
    yield
    for _ in range(task.max_steps):
        with torch.no_grad():
            flat = torch.as_tensor(np.asarray(obs, dtype=np.float32).reshape(-1))
            output = policy(flat) if state is None else policy(flat, state)
        output, state = output if isinstance(output, tuple) else (output, None)
        obs, _, terminated, truncated, _ = env.step(subnet.actions(output.numpy()[None])[0])
        yield
        if terminated or truncated:
            break
