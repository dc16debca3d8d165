# SPDX-License-Identifier: Apache-2.0
"""A short run of what `make chaos` does for long."""

import chaos
import vivarium


def test_some_rounds(build, prepared):
    """With the same seed each time: what it finds today it finds again."""
    instance = vivarium.Instance(build, prepared)
    try:
        done = chaos.run(instance, seed=1, rounds=10, most=6)
        assert done.boxes and done.written
    finally:
        instance.close()
