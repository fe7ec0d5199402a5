"""Every input of the corpus, and some that are made of them, keep the contract; ``make fuzz`` looks for others."""

import random

import pytest
from fuzz_targets import CORPUS, EXAMPLES, TARGETS

#: Inputs made of each of those of the corpus.
MADE = 2


def list_inputs(name):
    folders = [CORPUS / name, *([EXAMPLES[name]] if name in EXAMPLES else [])]
    return sorted(path for folder in folders if folder.is_dir() for path in folder.iterdir())


INPUTS = [(name, path) for name in TARGETS for path in list_inputs(name)]


@pytest.mark.parametrize(("name", "path"), INPUTS, ids=[f"{name}/{path.name}" for name, path in INPUTS])
def test_an_input_of_the_corpus_keeps_the_contract(name, path):
    content = path.read_bytes()
    TARGETS[name].run(content)
    for seed in range(MADE):
        TARGETS[name].run(TARGETS[name].mutate(content, TARGETS[name].longest, seed, change))


def test_every_target_has_inputs_and_every_input_a_target():
    assert {name for name, _ in INPUTS} == set(TARGETS)
    assert {path.name for path in CORPUS.iterdir()} <= set(TARGETS)


def change(data, longest):
    """Change a byte, leave some out or double some: what the fuzzer does in many more ways."""
    chance = random.Random(len(data))
    changed = bytearray(data)
    if changed:
        at = chance.randrange(len(changed))
        match chance.randrange(3):
            case 0:
                changed[at] ^= 1 << chance.randrange(8)
            case 1:
                del changed[at : at + 3]
            case _:
                changed[at:at] = changed[at : at + 5]
    return bytes(changed[:longest])
