# SPDX-License-Identifier: Apache-2.0
"""Sandboxes that come to rest and go on: by viv, at their deadline, by requests."""

import http.client
import re
import threading
import time

import vivarium

SERVER = """
import http.server, time
class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = 'HTTP/1.1'
    def log_message(self, *args): pass
    def answer(self, body):
        self.send_response(200)
        self.send_header('Content-Length', str(len(body)))
        self.end_headers()
        self.wfile.write(body)
    def do_POST(self):
        self.answer(self.rfile.read(int(self.headers['Content-Length'])).upper())
    def do_GET(self):
        if self.path == '/slow':
            open('/tmp/asked', 'w').close()
            time.sleep(2)
        if self.path != '/endless':
            return self.answer(b'hello')
        self.send_response(200)
        self.send_header('Transfer-Encoding', 'chunked')
        self.end_headers()
        while True:
            self.wfile.write(b'1\\r\\na\\r\\n')
            time.sleep(0.1)
http.server.ThreadingHTTPServer(('0.0.0.0', 8000), Handler).serve_forever()
"""

# What a rest changes in a sandbox's detail.
TIMES = {"startedAt", "endAt"}
RUNS = {"deadline", "generation", "checkpointBytes", "diskAllocatedBytes", "createSteps", "pauseSteps", "managerMs",
        "address", "vmmPid", "state", "origin"}


def sh(instance, sandbox, command, **kw):
    r = instance.viv("exec", sandbox, "--", "sh", "-c", command, **kw)
    assert r.returncode == 0, r.stderr
    return r.stdout.decode().strip()


def detail(instance, sandbox):
    return instance.get(f"/sandboxes/{sandbox}")


def state(instance, sandbox):
    return detail(instance, sandbox)["vivarium"]["state"]


def create(instance, **fields):
    status, box = instance.create(**fields)
    assert status == 201, box
    return box["sandboxID"]


def post(instance, sandbox, what, **body):
    return instance.request("POST", f"/sandboxes/{sandbox}/{what}", body)


def viv(instance, *args, code=0):
    r = instance.viv(*args)
    assert r.returncode == code, (r.stdout, r.stderr)
    return (r.stdout if code == 0 else r.stderr).decode()


def ask(instance, sandbox, path="/", method="GET", body=None, timeout=180, **headers):
    """A request to the server in a sandbox; the connection is left to the reply."""
    c = vivarium.UnixConnection(instance.run_dir / "vivd.sock", timeout)
    c.request(method, path, body, {"E2b-Sandbox-Id": sandbox, "E2b-Sandbox-Port": "8000", **headers})
    return c.getresponse()


def serve(instance, sandbox):
    sh(instance, sandbox, "cat > /tmp/server.py", stdin=SERVER.encode())
    sh(instance, sandbox, "nohup python3 /tmp/server.py >/tmp/log 2>&1 &")
    vivarium.wait_for(lambda: ask(instance, sandbox).status == 200, what="the server answers")


def test_verbs(shared):
    box = create(shared, name="verbs", **vivarium.BOOTED)
    boot = sh(shared, box, "echo kept > /home/user/file; cat /proc/sys/kernel/random/boot_id")
    assert viv(shared, "pause", "verbs") == "verbs\n"
    assert "paused already" in viv(shared, "pause", "verbs", code=1)
    own = detail(shared, box)["vivarium"]
    assert own["state"] == "paused" and own["generation"] == 1
    assert own["diskAllocatedBytes"] == own["checkpointBytes"] > 4 << 20
    steps = [step["step"] for step in own["pauseSteps"]]
    assert steps[0] == "drain" and "memory" in steps and steps[-2:] == ["commit", "release"]
    assert "agent" in [step["step"] for step in own["createSteps"]]
    line = next(l for l in viv(shared, "ls").splitlines() if l.startswith(box))
    assert " paused " in line and re.search(r" [0-9.]+M of 5\.0G$", line), line
    for verb in (["exec", "verbs", "--", "true"], ["cp", "verbs:/etc/passwd", "-"], ["ps", "verbs"]):
        assert f"is paused; `viv resume {box}`" in shared.viv(*verb).stderr.decode()
    assert "generation           1\n" in viv(shared, "inspect", "verbs")
    usage = next(u for u in shared.get("/df")["sandboxes"] if u["sandboxID"] == box)
    assert usage["bytes"] >= own["checkpointBytes"]

    assert viv(shared, "resume", box) == f"{box}\n"
    assert "running already" in viv(shared, "resume", box, code=1)
    assert sh(shared, box, "cat /home/user/file /proc/sys/kernel/random/boot_id") == f"kept\n{boot}"
    viv(shared, "stop", box)
    assert state(shared, box) == "stopped"
    viv(shared, "start", box)
    assert sh(shared, box, "cat /home/user/file") == "kept"
    other = sh(shared, box, "cat /proc/sys/kernel/random/boot_id")
    assert other != boot
    viv(shared, "restart", box)
    assert sh(shared, box, "cat /home/user/file; cat /proc/sys/kernel/random/boot_id") not in (boot, other)
    assert "deadline" not in detail(shared, box)["vivarium"]
    assert "no sandbox" in viv(shared, "stop", "nosuch", code=1)
    assert viv(shared, "rm", box)


def test_all_at_once(make_instance):
    """--all means those that the verb can serve, and is an end even where there are none."""
    instance = make_instance()
    assert instance.start(), instance.log_text()
    for verb in ("pause", "resume", "stop", "start", "restart", "rm"):
        assert viv(instance, verb, "--all") == ""
    one, named = create(instance), create(instance, name="named")
    assert "--all takes no" in viv(instance, "rm", "--all", "named", code=2)
    assert viv(instance, "pause", "named") == "named\n"
    assert viv(instance, "pause", "--all") == f"{one}\n"
    assert {state(instance, one), state(instance, named)} == {"paused"}
    assert sorted(viv(instance, "resume", "-a").split()) == sorted([one, "named"])
    assert sh(instance, one, "echo on") == "on"
    assert sorted(viv(instance, "rm", "--all").split()) == sorted([one, "named"])
    assert instance.get("/v2/sandboxes?all=true") == []


def test_every_field_is_kept_over_three_transitions(shared):
    box = create(shared, name="fields", timeout=3600, metadata={"a": "b", "c": "\u00e9"}, envVars={"WHO": "me"},
                 autoPause=True, autoResume={"enabled": True}, user="root", workdir="/tmp", diskSizeMB=6000,
                 network={"allowOut": ["192.0.2.1"], "denyOut": ["0.0.0.0/0"], "maskRequestHost": "a:1"})

    def lasting():
        d = detail(shared, box)
        d["vivarium"] = {k: v for k, v in d["vivarium"].items() if k not in RUNS}
        return {k: v for k, v in d.items() if k not in TIMES | {"state"}}

    before = lasting()
    assert before["lifecycle"] == {"onTimeout": "pause", "autoResume": True}
    assert before["network"]["allowOut"] == ["192.0.2.1"] and before["metadata"] == {"a": "b", "c": "\u00e9"}
    for generation, memory in enumerate((True, True, False, True), 1):
        assert post(shared, box, "pause", memory=memory) == (204, "")
        rest = detail(shared, box)
        assert rest["state"] == "paused" and rest["startedAt"] and rest["endAt"]
        assert lasting() == before, generation
        status, _ = shared.request("POST", f"/v2/sandboxes/{box}/connect", {"timeout": 1200})
        assert status == 201
        assert lasting() == before, generation
        assert detail(shared, box)["state"] == "running"
        assert sh(shared, box, "echo $WHO; id -un; pwd") == "me\nroot\n/tmp"
    assert viv(shared, "rm", box)


def test_paused_at_its_deadline_and_again(shared):
    box = create(shared, timeout=3600, autoPause=True)
    sh(shared, box, "echo kept > /dev/shm/memory")
    for _ in range(2):
        assert post(shared, box, "timeout", timeout=1)[0] == 204
        vivarium.wait_for(lambda: state(shared, box) == "paused", what="it is paused")
        assert post(shared, box, "timeout", timeout=60)[0] == 404
        status, _ = shared.request("POST", f"/v2/sandboxes/{box}/connect", {"timeout": 3600})
        assert status in (200, 201)
        assert sh(shared, box, "cat /dev/shm/memory") == "kept"
    assert viv(shared, "rm", box)


def test_only_its_disk_at_its_deadline(shared):
    box = create(shared, timeout=3600, autoPause=True, autoPauseMemory=False)
    sh(shared, box, "echo kept > /home/user/file")
    assert post(shared, box, "timeout", timeout=0)[0] == 204
    vivarium.wait_for(lambda: state(shared, box) == "stopped", what="it is stopped")
    assert ask(shared, box).status == 502
    assert detail(shared, box)["state"] == "paused"
    assert viv(shared, "rm", box)


def test_a_pause_at_the_deadline_that_fails_removes_nothing(make_instance):
    instance = make_instance(fault="pause.memory.before=fail")
    assert instance.start(), instance.log_text()
    box = create(instance, timeout=3600, autoPause=True)
    sh(instance, box, "echo kept > /dev/shm/memory")
    assert post(instance, box, "timeout", timeout=0)[0] == 204
    failed = "event=sandbox.expire_failed"
    vivarium.wait_for(lambda: failed in instance.log_text(), what="it fails")
    assert sh(instance, box, "cat /dev/shm/memory") == "kept"
    assert "fault injected" in detail(instance, box)["vivarium"]["lastError"]
    vivarium.wait_for(lambda: instance.log_text().count(failed) > 1, what="it is tried again")
    vivarium.wait_for(lambda: state(instance, box) == "running", what="it runs on")
    instance.stop()
    del instance.settings["fault"]
    assert instance.start(), instance.log_text()
    vivarium.wait_for(lambda: state(instance, box) == "paused", what="the next vivd pauses it")
    viv(instance, "resume", box)
    assert sh(instance, box, "cat /dev/shm/memory") == "kept"
    assert viv(instance, "rm", box)


def test_a_request_wakes_it_and_is_served(shared):
    box = create(shared, timeout=20, autoPause=True, autoResume={"enabled": True})
    post(shared, box, "timeout", timeout=3600)
    serve(shared, box)
    assert post(shared, box, "pause")[0] == 204
    replies = []

    def send(i):
        body = b"body %d " % i + b"x" * 300000
        reply = ask(shared, box, "/", "POST", body)
        replies.append((reply.status, reply.read() == body.upper()))

    senders = [threading.Thread(target=send, args=(i,)) for i in range(4)]
    for sender in senders:
        sender.start()
    for sender in senders:
        sender.join()
    assert replies == [(200, True)] * 4
    own = detail(shared, box)
    assert own["vivarium"]["state"] == "running"
    left = time.mktime(time.strptime(own["endAt"][:19], "%Y-%m-%dT%H:%M:%S")) - time.timezone - time.time()
    assert 100 < left <= 300
    assert post(shared, box, "pause", memory=False)[0] == 204
    assert ask(shared, box).status == 502  # what has no memory is not woken
    assert state(shared, box) == "stopped"
    assert viv(shared, "rm", box)


def test_what_is_not_woken(shared):
    plain = create(shared)
    closed = create(shared, autoPause=True, autoResume={"enabled": True}, network={"allowPublicTraffic": False})
    for box in (plain, closed):
        assert post(shared, box, "pause")[0] == 204
    reply = ask(shared, plain)
    assert reply.status == 502 and b"was not found" in reply.read()
    assert ask(shared, closed).status == 403
    assert state(shared, plain) == state(shared, closed) == "paused"
    assert viv(shared, "rm", plain, closed)


def test_requests_end_before_a_pause_and_streams_are_cut(shared):
    box = create(shared)
    serve(shared, box)
    endless = ask(shared, box, "/endless")
    assert endless.read(3) == b"aaa"
    slow = []

    def wait_slow():
        reply = ask(shared, box, "/slow")
        slow.append((reply.status, reply.read()))

    asker = threading.Thread(target=wait_slow)
    asker.start()
    vivarium.wait_for(lambda: sh(shared, box, "ls /tmp").find("asked") >= 0, what="it is asked")
    pauser = threading.Thread(target=post, args=(shared, box, "pause"))
    pauser.start()
    try:
        while endless.read(1):
            pass
        cut = False
    except (http.client.HTTPException, ConnectionResetError):
        cut = True
    assert cut
    late = ask(shared, box)
    assert late.status == 409 and b"try again" in late.read()
    asker.join()
    pauser.join()
    assert slow == [(200, b"hello")]
    assert state(shared, box) == "paused"
    assert viv(shared, "rm", box)
