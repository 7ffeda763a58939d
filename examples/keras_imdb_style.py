"""Text classification in the way of Keras's IMDB example, on text that every Python has at hand.

The texts are the docstrings of the standard library. Does one describe a class ("A queue that ...") or a function
("Return the ...")? The order of the words helps, so an LSTM can know more than a bag of words does. The files are read
and parsed, never imported. Whole modules and packages are held out for the test, and equal texts count once.

    pip install ".[examples]"
    python examples/keras_imdb_style.py
"""

import argparse
import ast
import re
import sys
import sysconfig
import time
from collections import Counter
from pathlib import Path

try:
    import glasscell.keras  # isort: skip  # before Keras: it chooses a backend that is installed
    import keras
    import numpy as np
    from keras import layers
except ImportError as error:
    sys.exit(f"{error}; all that this example needs: pip install '.[examples]'")

DEFINITIONS = (ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)
UNKNOWN, FIRST = 1, 2  # numbers of words; 0 is the padding, which `mask_zero` skips
BATCH = 32


def docstrings():
    """Yields (module, words, 1 for a class or 0 for a function) of the standard library, its tests left out."""
    library = Path(sysconfig.get_path("stdlib"))
    for module in sorted(sys.stdlib_module_names):
        for path in [library / f"{module}.py", *sorted((library / module).rglob("*.py"))]:
            if not path.is_file() or {"test", "tests", "idle_test"} & set(path.relative_to(library).parts):
                continue
            nodes = [ast.parse(path.read_bytes())]
            while nodes:
                node = nodes.pop()
                nodes += [child for child in node.body if isinstance(child, DEFINITIONS)]
                words = re.findall("[a-z]+", (ast.get_docstring(node) or "").lower())
                if isinstance(node, DEFINITIONS) and len(words) >= 4:
                    yield module, tuple(words), int(isinstance(node, ast.ClassDef))


def balanced(texts, rng):
    """As many functions as classes, drawn and shuffled; whole batches, as a smaller one would be compiled anew."""
    kinds = [[text for text in texts if text[2] == kind] for kind in (0, 1)]
    size = min(map(len, kinds)) * 2 // BATCH * BATCH // 2
    chosen = [kind[k] for kind in kinds for k in rng.permutation(len(kind))[:size]]
    return [chosen[k] for k in rng.permutation(len(chosen))]


def encode(texts, number):
    """The texts as numbers of words, padded: (N, longest) int32; and the kinds, (N,)."""
    sequences = [[number.get(word, UNKNOWN) for word in words] for _, words, _ in texts]
    return keras.utils.pad_sequences(sequences, padding="post"), np.array([kind for _, _, kind in texts])


def naive_bayes(x, y, x_test, vocabulary):
    """The bag of words: which kind has these words more often, in any order? Returns the kinds of x_test."""
    counts = np.stack([np.bincount(x[y == kind].ravel(), minlength=vocabulary) for kind in (0, 1)])[:, UNKNOWN:] + 1
    evidence = np.diff(np.log(counts / counts.sum(1, keepdims=True)), axis=0)[0]
    return np.append(0, evidence)[x_test].sum(1) > 0


def train(lstm, x, y, vocabulary, epochs):
    """The model around this layer, trained, and the seconds an epoch took after the first one, which compiles."""
    before = [layers.Embedding(vocabulary, 64, mask_zero=True), layers.Dropout(0.3)]
    after = [layers.Dropout(0.3), layers.Dense(1, activation="sigmoid")]
    model = keras.Sequential([*before, lstm, *after])
    model.compile("adam", "binary_crossentropy", metrics=["accuracy"])
    model.fit(x, y, batch_size=BATCH, epochs=1)
    start = time.perf_counter()
    model.fit(x, y, batch_size=BATCH, initial_epoch=1, epochs=epochs)
    return model, (time.perf_counter() - start) / (epochs - 1)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--epochs", type=int, default=3, help="2 or more; the first one is not timed")
    parser.add_argument("--units", type=int, default=64)
    parser.add_argument("--words", type=int, default=60, help="how many words of a text are read")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    if options.epochs < 2:
        parser.error(f"--epochs: expected 2 or more, got {options.epochs}")

    rng = np.random.default_rng(options.seed)
    texts = {words[: options.words]: (module, words[: options.words], kind) for module, words, kind in docstrings()}
    modules = sorted({module for module, _, _ in texts.values()})
    held_out = {modules[k] for k in rng.permutation(len(modules))[: len(modules) // 4]}
    learned, tested = (balanced([t for t in texts.values() if (t[0] in held_out) == out], rng) for out in (False, True))
    counts = Counter(word for _, words, _ in learned for word in words)
    number = {word: FIRST + k for k, (word, count) in enumerate(counts.most_common()) if count > 1}
    vocabulary = FIRST + len(number)
    (x, y), (x_test, y_test) = encode(learned, number), encode(tested, number)
    print(f"{len(x)} texts to learn from, {len(x_test)} from {len(held_out)} other modules, {vocabulary} words")

    lines = [f"{'always the same':20}{max(y_test.mean(), 1 - y_test.mean()):8.3f}"]
    lines += [f"{'naive Bayes':20}{(naive_bayes(x, y, x_test, vocabulary) == y_test).mean():8.3f}"]
    for name, LSTM in (("keras", keras.layers.LSTM), ("glasscell.keras", glasscell.keras.LSTM)):  # all that changes
        print(f"\n{name}")
        keras.utils.set_random_seed(options.seed)
        lstm = LSTM(options.units)
        model, seconds = train(lstm, x, y, vocabulary, options.epochs)
        accuracy = ((model.predict(x_test, batch_size=BATCH, verbose=0)[:, 0] > 0.5) == y_test).mean()
        lines += [f"{name:20}{accuracy:8.3f}{seconds:9.2f}  {getattr(lstm, 'engine_used', keras.backend.backend())}"]
    print(f"\n{'held-out modules':20}accuracy  s/epoch  engine", *lines, sep="\n")


if __name__ == "__main__":
    main()
