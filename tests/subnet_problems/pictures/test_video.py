"""A film shows the episode that the policy plays."""

import os
import sys
from importlib.util import find_spec

import gymnasium as gym
import numpy as np
import pytest
from disks import full_disk
from PIL import Image
from small_subnetworks import BOX, RNN, make

from subnet_problems import DiscreteActions, EvaluationError
from subnet_problems.pictures import record_video


def cart_pole(network=(6, 5), **arguments):
    return make(network, actions=DiscreteActions(2), env="CartPole-v1", **arguments)


def length_of_episode(subnet, seed):
    env = gym.make("CartPole-v1")
    obs, _ = env.reset(seed=seed)
    for steps in range(1, 501):
        obs, _, terminated, truncated, _ = env.step(subnet.act(obs))
        if terminated or truncated:
            return steps
    raise AssertionError


@pytest.mark.parametrize("seed", [0, 3])
def test_a_gif_lasts_as_long_as_its_episode(seed, tmp_path):
    subnet = cart_pole()
    path = record_video(subnet, None, tmp_path / "films" / "film.gif", seed=seed)
    assert path == tmp_path / "films" / "film.gif"
    with Image.open(path) as film:
        shown = sum(frame.info["duration"] for frame in _frames(film)) / 1000
        assert film.size == (600, 400)
    steps = length_of_episode(subnet, seed)
    assert shown == pytest.approx((steps + 1) / 50, abs=0.05)


def _frames(film):
    for number in range(film.n_frames):
        film.seek(number)
        yield film


def test_an_mp4_is_written_by_gymnasiums_recorder(tmp_path):
    pytest.importorskip("moviepy")
    path = record_video(cart_pole(RNN), None, tmp_path / "film.mp4")
    assert path.read_bytes()[4:8] == b"ftyp"
    assert [file.name for file in tmp_path.iterdir()] == ["film.mp4"]


def test_another_environment_can_be_given(tmp_path):
    subnet = make(actions=DiscreteActions(2))
    path = record_video(subnet, lambda **options: gym.make("CartPole-v1", **options), tmp_path / "film.gif")
    assert path.exists()


class Undrawable(gym.Env):
    observation_space = gym.spaces.Box(-1.0, 1.0, (4,), np.float32)
    action_space = gym.spaces.Discrete(2)
    spec = gym.envs.registration.EnvSpec("Undrawable-v0", max_episode_steps=5)


class Drawn(Undrawable):
    """Renders ``draw(step)``, and counts the open environments."""

    num_open = 0

    def __init__(self, render_mode=None, *, draw=None, steps=5, metadata=None):
        self.metadata = {"render_fps": 50} if metadata is None else metadata
        self._draw, self._steps = draw, steps
        Drawn.num_open += 1

    def reset(self, *, seed=None, options=None):
        self._step = 0
        return np.zeros(4, np.float32), {}

    def step(self, action):
        self._step += 1
        return np.zeros(4, np.float32), 0.0, self._step == self._steps, False, {}

    def render(self):
        return self._draw(self._step)

    def close(self):
        Drawn.num_open -= 1


def noise(step, shape=(32, 48, 3), dtype=np.uint8):
    return np.random.default_rng(step).integers(0, 256, shape).astype(dtype)


SUFFIXES = [".gif", pytest.param(".mp4", marks=pytest.mark.skipif(not find_spec("moviepy"), reason="needs moviepy"))]


def film(path, draw=noise, **options):
    return record_video(make(actions=DiscreteActions(2)), lambda **mode: Drawn(**mode, draw=draw, **options), path)


@pytest.mark.parametrize(
    ("draw", "shown"),
    [
        (noise, noise),
        (lambda step: noise(step, dtype=np.int64), noise),
        (lambda step: [noise(9), noise(step)], noise),
        (lambda step: noise(step, (32, 48)), lambda step: noise(step, (32, 48))[:, :, None]),
        (lambda step: noise(step, (32, 48, 1)), lambda step: noise(step, (32, 48, 1))),
        (lambda step: noise(step, (32, 48, 4)), lambda step: noise(step, (32, 48, 4))[:, :, :3]),
    ],
)
@pytest.mark.parametrize("suffix", SUFFIXES)
def test_common_frame_formats_are_supported(suffix, draw, shown, tmp_path):
    path = film(tmp_path / f"film{suffix}", draw)
    if suffix == ".gif":
        with Image.open(path) as film_:
            seen = [np.asarray(frame.convert("RGB"), dtype=float) for frame in _frames(film_)]
        assert len(seen) == 3  # at 25 frames per second
        for number, picture in enumerate(seen):
            assert np.abs(picture - shown(2 * number)).mean() < 20  # a GIF with 64 colors
    else:
        assert path.read_bytes()[4:8] == b"ftyp"
    assert Drawn.num_open == 0


@pytest.mark.parametrize(
    ("draw", "error", "message"),
    [
        (lambda step: None, ValueError, r"^env: expected frames of shape .*render_mode='rgb_array', got None$"),
        (lambda step: [], ValueError, r"^env: expected frames of shape .*, got \[\]$"),
        (lambda step: np.zeros((9, 9, 3)), ValueError, r"^env: .* of whole numbers up to 255, got .* of float64$"),
        (lambda step: np.full((9, 9), 256), ValueError, r"^env: .* up to 255, got one from 256 to 256$"),
        (lambda step: noise(step, (3, 9, 9)), ValueError, r"^env: expected frames of .*, got shape \(3, 9, 9\)$"),
        (lambda step: noise(step, (0, 9, 3)), ValueError, r"^env: expected frames of .*, got shape \(0, 9, 3\)"),
        (lambda step: noise(step, (9 + step, 9)), ValueError, r"^env: expected frames of one size, got \(9, 9\) and"),
        (lambda step: noise(1 // (2 - step)), EvaluationError, "step 2: the environment's render raised ZeroDivision"),
    ],
)
@pytest.mark.parametrize("suffix", SUFFIXES)
def test_invalid_frames_raise_and_the_environment_is_closed(suffix, draw, error, message, tmp_path):
    (tmp_path / f"film{suffix}").write_bytes(b"an older one")
    with pytest.raises(error, match=message):
        film(tmp_path / f"film{suffix}", draw)
    assert Drawn.num_open == 0
    assert [file.read_bytes() for file in tmp_path.iterdir()] == [b"an older one"]


@pytest.mark.parametrize("fps", [0, -3, float("nan"), float("inf"), "30", True])
def test_render_fps_must_be_a_positive_number(fps, tmp_path):
    with pytest.raises(ValueError, match=r"^env: expected metadata\['render_fps'\] to be a number above 0, got"):
        film(tmp_path / "film.gif", metadata={"render_fps": fps})
    assert Drawn.num_open == 0


@pytest.mark.parametrize(
    ("metadata", "seconds"),
    [
        ({}, 6 / 30),
        ({"render_fps": None}, 6 / 30),
        ({"render_fps": 7}, 6 / 7),
        ({"render_fps": np.int64(15)}, 6 / 15),
        ({"render_fps": 0.5}, 12.0),
        ({"render_fps": 1000}, 0.04),
    ],
)
def test_the_duration_of_a_gif_follows_render_fps(metadata, seconds, tmp_path):
    with Image.open(film(tmp_path / "film.gif", metadata=metadata)) as film_:
        shown = [frame.info["duration"] for frame in _frames(film_)]
    assert min(shown) > 0
    assert sum(shown) / 1000 == pytest.approx(seconds, abs=0.04)


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_an_episode_may_have_one_step_and_a_suffix_may_be_uppercase(suffix, tmp_path):
    assert film(tmp_path / f"film{suffix.upper()}", steps=1).stat().st_size > 100


def test_a_full_disk_leaves_the_older_film(tmp_path):
    path = film(tmp_path / "film.gif")
    before = path.read_bytes()
    with full_disk(), pytest.raises(OSError, match="File too large"):
        film(path)
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("runtime_dir", [None, "/run/user/1000"])
def test_recording_prints_nothing_and_does_not_change_os_environ(runtime_dir, tmp_path, capfd, monkeypatch):
    monkeypatch.delenv("XDG_RUNTIME_DIR", raising=False)
    if runtime_dir is not None:
        monkeypatch.setenv("XDG_RUNTIME_DIR", runtime_dir)
    before = dict(os.environ)
    record_video(cart_pole(), None, tmp_path / "film.gif")
    assert dict(os.environ) == before
    assert capfd.readouterr() == ("", "")


def test_without_moviepy_the_error_names_the_extra_to_install(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "moviepy", None)
    with pytest.raises(ImportError, match=r"^path: \.mp4 needs .* \(pip install subnet-problems\[video\]\)"):
        film(tmp_path / "film.mp4")
    assert Drawn.num_open == 0
    assert not list(tmp_path.iterdir())


def cannot_be_made(render_mode=None):
    if render_mode is not None:
        raise OSError("no screen")
    return Drawn()


@pytest.mark.parametrize(
    ("subnet", "env", "name", "error", "message"),
    [
        (cart_pole(), None, "film.avi", ValueError, "path: expected a name that ends in .mp4 or .gif"),
        (cart_pole(), None, 3, TypeError, "path: expected"),
        (make(), None, "film.gif", ValueError, "env: expected a Gymnasium id or a callable"),
        (
            make(actions=BOX),
            "CartPole-v1",
            "film.gif",
            ValueError,
            "env: expected",
        ),
        (cart_pole(), Undrawable, "film.gif", ValueError, "env: expected one that accepts render_mode='rgb_array'"),
        (cart_pole(), cannot_be_made, "film.gif", ValueError, "env: expected one that accepts .*: no screen"),
        (cart_pole(), None, "", ValueError, "path: expected"),
    ],
)
def test_errors_name_the_invalid_argument(subnet, env, name, error, message, tmp_path):
    with pytest.raises(error, match=message):
        record_video(subnet, env, tmp_path / name if isinstance(name, str) else name)
    assert not list(tmp_path.iterdir())


class Numbered(gym.Env):
    """Its actions start at ``start``; an episode has five steps, whose actions are logged.

    Attributes:
        log: The actions of all episodes.
    """

    metadata = {"render_modes": ["rgb_array"], "render_fps": 5}  # noqa: RUF012
    observation_space = gym.spaces.Box(-1, 1, (4,))
    log = []  # noqa: RUF012

    def __init__(self, *, start=0, render_mode=None):
        self.action_space = gym.spaces.Discrete(2, start=start)
        self.render_mode = render_mode

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self._steps = 0
        return np.ones(4, np.float32), {}

    def step(self, action):
        self.log.append(int(action))
        self._steps += 1
        return np.ones(4, np.float32), 0.0, self._steps == 5, False, {}

    def render(self):
        return np.zeros((2, 2, 3), np.uint8)


@pytest.mark.parametrize("start", [0, 5])
def test_a_film_and_a_test_take_the_actions_of_the_given_environment(start, tmp_path):
    subnet = make(actions=DiscreteActions(2))
    played = []
    for play in (
        lambda: subnet.test(env=Numbered, env_config={"start": start}, episode_length=9, num_episodes=1),
        lambda: record_video(
            subnet, Numbered, tmp_path / "film.gif", env_config={"start": start}, episode_length=9, seed=1
        ),
    ):
        Numbered.log.clear()
        play()
        played.append(list(Numbered.log))
    assert played[0] == played[1] == [played[0][0]] * 5
    assert played[0][0] in (start, start + 1)


class Reversed(Numbered):
    def step(self, action):
        _, *rest = super().step(action)
        return np.array([1, 0.5, 0.25, -1], np.float32)[::-1], *rest


def test_observations_may_be_views_with_negative_strides(tmp_path):
    subnet = make(actions=DiscreteActions(2))
    assert len(subnet.test(env=Reversed, episode_length=9, num_episodes=1)) == 1
    assert record_video(subnet, Reversed, tmp_path / "film.gif", episode_length=9).exists()


class Slow(Numbered):
    metadata = {"render_modes": ["rgb_array"], "render_fps": 0.001}  # noqa: RUF012


def test_a_gif_with_too_long_a_frame_is_refused(tmp_path):
    with pytest.raises(ValueError, match=r"^path: expected \.mp4 for a frame that lasts over 655 seconds"):
        record_video(make(actions=DiscreteActions(2)), Slow, tmp_path / "film.gif", episode_length=9)
    assert list(tmp_path.iterdir()) == []
