"""A film shows the very episode that the policy plays."""

import gymnasium as gym
import numpy as np
import pytest
from PIL import Image
from small_subnetworks import BOX, RNN, make

from subnet_problems import DiscreteActions
from subnet_problems.video import record_video


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
def test_a_gif_has_a_picture_for_every_second_step(seed, tmp_path):
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
        (cart_pole(), Undrawable, "film.gif", ValueError, "env: expected one that takes render_mode='rgb_array'"),
    ],
)
def test_what_cannot_be_filmed_is_refused(subnet, env, name, error, message, tmp_path):
    with pytest.raises(error, match=message):
        record_video(subnet, env, tmp_path / name if isinstance(name, str) else name)
    assert not list(tmp_path.iterdir())
