# SPDX-License-Identifier: Apache-2.0
"""Cold boots never hang, also three at once on two cores. VIV_BOOTS says how many (51 in make test-all)."""

import os
import subprocess

BOOTS = int(os.environ.get("VIV_BOOTS", "9"))
AT_ONCE = 3


def test_boots_three_at_once(make_instance):
    instance = make_instance(warm_images=0)
    assert instance.start(), instance.log_text()
    done = 0
    while done < BOOTS:
        ps = [instance.popen("run", "--", "echo", str(i), stdout=subprocess.PIPE, stderr=subprocess.PIPE)
              for i in range(min(AT_ONCE, BOOTS - done))]
        outs = [p.communicate(timeout=120) for p in ps]
        assert [(p.returncode, out) for p, (out, _) in zip(ps, outs)] == [
            (0, f"{i}\n".encode()) for i in range(len(ps))], outs
        done += len(ps)
    assert done == BOOTS
