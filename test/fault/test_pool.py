# SPDX-License-Identifier: Apache-2.0
"""
Network slots made ahead: as many as asked for, whole, given out once, found again after kill -9, gone after a
clean end; and when none can be made, that is said once and creates go on.
"""

import contextlib
import http.client
import pathlib
import random
import signal
import threading
import time

import pytest
import vivarium

GONE = (ConnectionError, http.client.HTTPException, OSError)
SLOTS_MAX = 512


def links(instance):
    """Alias by link of all slots."""
    found = vivarium.ip_json("link")
    return {l["ifname"]: l.get("ifalias", "") for l in found if l["ifname"].startswith(f"viv{instance.tag}-")}


def namespaces(instance):
    return {n.split()[0] for n in vivarium.lines("ip", "netns", "list") if n.startswith(f"viv-{instance.tag}-")}


def ready(instance):
    return {name for name, alias in links(instance).items() if alias == "ready"}


def netns_of(instance, link):
    return f"viv-{instance.tag}-{link.rsplit('-', 1)[1]}"


def assert_whole(instance, link):
    netns = netns_of(instance, link)
    inside = vivarium.ip_json("-n", netns, "addr")
    up = next(l for l in inside if l["ifname"] == "up0")
    assert "UP" in up["flags"] and len(up["addr_info"]) == 1
    outside = vivarium.ip_json("addr", "show", link)[0]
    assert "UP" in outside["flags"] and len(outside["addr_info"]) == 1
    rules = vivarium.run("ip", "netns", "exec", netns, "nft", "list", "ruleset").stdout
    assert "dnat ip to 169.254.0.21" in rules and "policy drop" in rules


def wait_full(instance, n, claimed=0):
    """The pool has exactly n slots, all whole, and beside it are only the claimed ones."""
    vivarium.wait_for(lambda: len(ready(instance)) >= n, what=f"{n} slots are ready")
    assert len(ready(instance)) == n
    assert len(links(instance)) == len(namespaces(instance)) == n + claimed
    for link in ready(instance):
        assert_whole(instance, link)


def create(instance, **fields):
    status, sandbox = instance.create(**fields)
    assert status == 201, sandbox
    return sandbox["sandboxID"]


def link_of(instance, sandbox):
    return next(name for name, alias in links(instance).items() if alias == sandbox)


def unfilled(instance):
    return instance.log_text().count("event=net.pool_unfilled")


def test_claimed_and_refilled(make_instance):
    instance = make_instance(slot_pool=2)
    assert instance.start(), instance.log_text()
    wait_full(instance, 2)
    ahead = ready(instance)
    sandbox = create(instance)
    used = link_of(instance, sandbox)
    assert used in ahead
    wait_full(instance, 2, claimed=1)
    assert used not in ready(instance)
    assert instance.viv("exec", sandbox, "--", "true").returncode == 0
    instance.request("DELETE", f"/sandboxes/{sandbox}")
    assert used not in links(instance)  # what was used does not come back
    wait_full(instance, 2)


def test_default_is_a_pool(make_instance):
    instance = make_instance()
    del instance.settings["slot_pool"]
    assert instance.start(), instance.log_text()
    wait_full(instance, 4)


def test_creates_at_once(make_instance):
    """More than are ready: each gets a slot of its own."""
    instance = make_instance(slot_pool=2)
    assert instance.start(), instance.log_text()
    wait_full(instance, 2)
    made = []
    threads = [threading.Thread(target=lambda: made.append(create(instance))) for _ in range(3)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    assert len({link_of(instance, sandbox) for sandbox in made}) == 3
    assert len({instance.get(f"/sandboxes/{s}")["vivarium"]["address"] for s in made}) == 3
    wait_full(instance, 2, claimed=3)


def test_clean_end_keeps_claimed_slots_only(make_instance):
    instance = make_instance(slot_pool=2)
    assert instance.start(), instance.log_text()
    sandbox = create(instance)
    wait_full(instance, 2, claimed=1)
    used = link_of(instance, sandbox)
    instance.stop()
    assert links(instance) == {used: sandbox}
    assert namespaces(instance) == {netns_of(instance, used)}
    assert instance.start(), instance.log_text()
    wait_full(instance, 2, claimed=1)
    assert instance.viv("exec", sandbox, "--", "true").returncode == 0


def test_clean_end_while_it_fills(make_instance):
    instance = make_instance(slot_pool=8)
    rng = random.Random(1)
    for _ in range(6):
        assert instance.start(settle=False), instance.log_text()
        time.sleep(rng.uniform(0, 0.15))
        assert instance.stop() == 0
        left = {k: v for k, v in vivarium.inventory(instance, instance.tag).items() if v and k != "files"}
        assert left == {}


def test_killed_while_it_fills(make_instance):
    """At any moment: the next daemon has exactly as many, whole, and a guest behind one that was adopted."""
    instance = make_instance(slot_pool=6)
    assert instance.start(), instance.log_text()
    rng = random.Random(2)
    adopted = set()
    for i in range(12):
        instance.stop()
        assert links(instance) == {} and namespaces(instance) == set()
        assert instance.start(settle=False), instance.log_text()
        vivarium.wait_for(lambda: len(ready(instance)) >= i // 2, what=f"{i // 2} slots are ready")
        time.sleep(rng.uniform(0, 0.03))
        instance.stop(signal.SIGKILL)
        left = ready(instance)
        assert instance.start(settle=False), instance.log_text()
        wait_full(instance, 6)
        assert left <= ready(instance)
        adopted = left or adopted
    assert adopted, "it was never killed with slots that were ready"


def test_guest_behind_an_adopted_slot(make_instance):
    instance = make_instance(slot_pool=3)
    assert instance.start(), instance.log_text()
    wait_full(instance, 3)
    left = ready(instance)
    instance.stop(signal.SIGKILL)
    assert ready(instance) == left
    assert instance.start(), instance.log_text()
    sandbox = create(instance)
    assert link_of(instance, sandbox) in left
    r = instance.viv("exec", sandbox, "--", "echo", "here")
    assert (r.returncode, r.stdout) == (0, b"here\n"), r.stderr
    wait_full(instance, 3, claimed=1)


def test_smaller_after_a_kill(make_instance):
    instance = make_instance(slot_pool=4)
    assert instance.start(), instance.log_text()
    wait_full(instance, 4)
    for size in (2, 0):
        instance.stop(signal.SIGKILL)
        assert instance.start(slot_pool=size), instance.log_text()
        wait_full(instance, size)


@pytest.mark.parametrize("fault", ["create.slot.before=kill", "create.slot.after=kill", "create.slot.after=fail",
                                   "create.cgroup.after=fail", "release.slot.before=kill", "release.slot.after=kill"])
def test_faults_beside_a_pool(make_instance, fault):
    instance = make_instance(slot_pool=2)
    assert instance.start(fault=fault), instance.log_text()
    wait_full(instance, 2)
    with contextlib.suppress(*GONE):
        status, sandbox = instance.create(**(vivarium.BOOTED if fault.startswith("create") else {}))
        if status == 201:
            instance.request("DELETE", f"/sandboxes/{sandbox['sandboxID']}")
    if fault.endswith("kill"):
        assert instance.wait_dead() == -signal.SIGKILL
        assert instance.start(), instance.log_text()
    vivarium.wait_for(lambda: instance.rows() == {}, what="it was undone")
    wait_full(instance, 2)


def test_cannot_be_filled(make_instance):
    """It is said once, tried again with back-off, and creates make what they need."""
    instance = make_instance(slot_pool=2)
    assert instance.start(fault="pool.fill.before=fail"), instance.log_text()
    vivarium.wait_for(lambda: unfilled(instance) == 1, what="it was said")
    sandbox = create(instance)
    assert links(instance) == {link_of(instance, sandbox): sandbox}
    assert instance.viv("exec", sandbox, "--", "true").returncode == 0
    time.sleep(1.5)  # it was tried again meanwhile
    assert unfilled(instance) == 1
    assert "fault injected at pool.fill.before" in instance.log_text()
    instance.stop()
    assert instance.start(), instance.log_text()
    wait_full(instance, 2, claimed=1)


@contextlib.contextmanager
def all_numbers_taken(instance):
    """Names in /run/netns, as another program might leave them."""
    made = []
    for n in range(SLOTS_MAX):
        path = pathlib.Path(f"/run/netns/viv-{instance.tag}-{n}")
        with contextlib.suppress(FileExistsError):
            path.touch(exist_ok=False)
            made.append(path)
    try:
        yield
    finally:
        for path in made:
            path.unlink()


def test_no_number_is_free(make_instance):
    """What is ready is given out; then a create fails clearly, and the pool comes back when there is room."""
    instance = make_instance(slot_pool=1)
    assert instance.start(), instance.log_text()
    for times in (1, 2):
        vivarium.wait_for(lambda: len(ready(instance)) == 1, what="one slot is ready")
        with all_numbers_taken(instance):
            sandbox = create(instance)
            status, body = instance.create()
            assert status == 503 and "all 512 network slots" in body["message"]
            vivarium.wait_for(lambda: unfilled(instance) == times, what="it was said")
        instance.request("DELETE", f"/sandboxes/{sandbox}")
    wait_full(instance, 1)
    assert unfilled(instance) == 2


def test_firewall_reloaded(make_instance):
    """The host's table is gone, as after a "flush ruleset": it is back before a guest gets its slot."""
    instance = make_instance(slot_pool=1)
    assert instance.start(), instance.log_text()
    wait_full(instance, 1)
    table = f"vivarium_{instance.tag}"
    before = vivarium.run("nft", "list", "table", "inet", table).stdout
    assert "chain from_guest" in before
    assert vivarium.run("nft", "delete", "table", "inet", table).returncode == 0
    create(instance)
    assert vivarium.run("nft", "list", "table", "inet", table).stdout == before
    assert "event=net.table_gone" in instance.log_text()
