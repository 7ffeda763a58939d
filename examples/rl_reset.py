"""Reinforcement learning with a memory, where episodes start in the middle of the sequences.

At an episode's first step the policy sees a cue, one of four; at each later step it sees noise and earns 1 if it names
the cue. Episodes are of any length, so in a rollout of many steps of many environments they begin and end anywhere.

Acting, the policy takes one step at a time, with `LSTMCell`. Learning, it goes over the whole rollout: `LSTM`, which
has the same parameters, takes `reset`, True where an episode starts, and runs forward and backward in one native call
each; without it one has to go step by step, as the last lines compare. The measure is the same policy without memory,
whose state is reset at every step, and chance. The update is the advantage actor-critic's: as an action changes
nothing but its own reward, that reward is its return.

    pip install ".[examples-torch]"
    python examples/rl_reset.py
"""

import argparse
import sys
import time

try:
    import numpy as np
    import torch
    from torch.nn.functional import cross_entropy, mse_loss

    import glasscell
    from glasscell.torch import LSTM, LSTMCell
except ImportError as error:
    sys.exit(f"{error}; all that this example needs: pip install '.[examples-torch]'")

CUES, NOISE = 4, 4
OBSERVED = CUES + NOISE


class Recall:
    """Many environments side by side. Each of their episodes has a cue and, on average, 16 steps."""

    def __init__(self, environments, rng):
        self.rng, self.cue = rng, np.zeros(environments, int)
        self.begin(np.ones(environments, bool))

    def begin(self, start):
        """New episodes where start, (B,), is True: `observation` is what the policy sees next, (B, OBSERVED)."""
        self.start = start
        self.cue[start] = self.rng.integers(CUES, size=start.sum())
        cue = np.eye(CUES)[self.cue] * start[:, None]
        noise = self.rng.standard_normal((len(start), NOISE)) / 2
        self.observation = np.concatenate([cue, noise], 1).astype("float32")

    def step(self, action):
        """The reward of each action, (B,): none at the step that shows the cue."""
        reward = (action == self.cue) & ~self.start
        self.begin(self.rng.random(len(action)) < 1 / 16)
        return reward.astype("float32")


class Policy(torch.nn.Module):
    """The logits of the actions and the value expected, of every step."""

    def __init__(self, units):
        super().__init__()
        self.lstm, self.head = LSTM(OBSERVED, units), torch.nn.Linear(units, CUES + 1)
        self.cell = LSTMCell(OBSERVED, units)
        for name in ("weight_ih", "weight_hh", "bias_ih", "bias_hh"):  # one set of parameters for both
            setattr(self.cell, name, getattr(self.lstm, f"{name}_l0"))

    def step(self, observation, state, start):
        """One step of acting: h and c, (B, units) each, are zero where an episode starts."""
        return self.cell(observation, tuple(s.masked_fill(start[:, None], 0) for s in state))

    def whole(self, observations, state, starts):
        """h of all steps, (T, B, units), in one native call; `starts` (T, B) bool."""
        return self.lstm(observations, tuple(s[None] for s in state), reset=starts)[0]

    def loop(self, observations, state, starts):
        """The same h, one step after the other, as without `reset`."""
        hs = []
        for observation, start in zip(observations, starts, strict=True):
            state = self.step(observation, state, start)
            hs.append(state[0])
        return torch.stack(hs)


@torch.no_grad()
def act(policy, world, state, steps, memory):
    """A rollout: (observations, starts, actions, rewards), (T, B, ...) each, and the state after it."""
    rollout = []
    for _ in range(steps):
        observation, shown = torch.from_numpy(world.observation), torch.from_numpy(world.start)
        start = shown if memory else torch.ones_like(shown)
        state = policy.step(observation, state, start)
        action = policy.head(state[0])[:, :CUES].softmax(1).multinomial(1)[:, 0]
        reward = torch.from_numpy(world.step(action.numpy()))
        rollout.append((observation, start, action, reward, ~shown))
    return [torch.stack(parts) for parts in zip(*rollout, strict=True)], state


def loss_of(policy, run, state, rollout):
    """run: `policy.whole` or `policy.loop`."""
    observations, starts, actions, rewards, counts = rollout
    logits, values = policy.head(run(observations, state, starts))[counts].split([CUES, 1], 1)
    actions, rewards, values = actions[counts], rewards[counts], values[:, 0]
    gain = (rewards - values).detach()
    entropy = torch.distributions.Categorical(logits=logits).entropy().mean()
    return (gain * cross_entropy(logits, actions, reduction="none")).mean() + mse_loss(values, rewards) - 0.01 * entropy


def train(options, memory):
    """The policy, the share of cues that it named over the last tenth of the updates, and its last rollout."""
    torch.manual_seed(options.seed)
    policy, world = Policy(options.units), Recall(options.environments, np.random.default_rng(options.seed))
    optimizer = torch.optim.Adam(policy.parameters(), 1e-2)
    state = tuple(torch.zeros(options.environments, options.units) for _ in "hc")
    named = []
    for _ in range(options.updates):
        before = state
        rollout, state = act(policy, world, before, options.steps, memory)
        optimizer.zero_grad()
        loss_of(policy, policy.whole, before, rollout).backward()
        optimizer.step()
        named.append(float(rollout[3].sum() / rollout[4].sum()))
    return policy, np.mean(named[-max(1, options.updates // 10) :]), (before, rollout)


def compare(policy, before, rollout, times=10):
    """The least milliseconds of an update, in one call and step by step, and how far their gradients are apart."""
    parameters, gradients, milliseconds = list(policy.parameters()), [], []
    for run in (policy.whole, policy.loop):
        seconds = []
        for _ in range(times):
            start = time.perf_counter()
            found = torch.autograd.grad(loss_of(policy, run, before, rollout), parameters)
            seconds.append(time.perf_counter() - start)
        gradients.append(torch.cat([g.flatten() for g in found]))
        milliseconds.append(1e3 * min(seconds))
    whole, loop = gradients
    return *milliseconds, float((whole - loop).abs().max() / loop.abs().max())


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--updates", type=int, default=120)
    parser.add_argument("--steps", type=int, default=64, help="of each environment in a rollout")
    parser.add_argument("--environments", type=int, default=32)
    parser.add_argument("--units", type=int, default=64)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()

    torch.set_num_threads(1)  # single steps are too small to share; and so both updates have the same
    glasscell.set_num_threads(1)
    policy, remembers, last = train(options, memory=True)
    _, forgets, _ = train(options, memory=False)
    print(f"{f'{options.updates} updates':32}share of cues named")
    for name, share in (("chance", 1 / CUES), ("policy without memory", forgets), ("policy with LSTM", remembers)):
        print(f"{name:32}{share:19.3f}")
    whole, loop, apart = compare(policy, *last)
    print(f"\n{f'an update of {options.steps} steps by {options.environments}':32}{'milliseconds':>19}")
    print(f"{'in one call, with reset':32}{whole:19.2f}")
    print(f"{'step by step':32}{loop:19.2f}")
    print(f"their gradients are {apart:.0e} of the largest apart")
    print(f"engine: {policy.lstm.engine_used}")


if __name__ == "__main__":
    main()
