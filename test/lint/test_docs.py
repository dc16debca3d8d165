# SPDX-License-Identifier: Apache-2.0
"""What the programs say of themselves is in their man pages, completions and example, and true there."""

import re
import shutil
import subprocess

import pytest

UNITS = {"": 1, "M": 1, "G": 1024, "T": 1024 * 1024}
CONTROL = "\x01"  # no setting can be that: its message says what it can be
MAN_COLUMNS = 120


def run(*argv):
    return subprocess.run(argv, capture_output=True, text=True, env={"PATH": "/usr/bin:/bin"}, timeout=60)


def page(root, name):
    return (root / "doc" / "man" / f"{name}.scd").read_text()


def pages(root):
    found = sorted((root / "doc" / "man").glob("*.scd"))
    assert found
    return found


def plain(text):
    """A page's text without the marks of scdoc."""
    return re.sub(r"\\(.)", r"\1", text.replace("*", ""))


def verbs(build):
    found = re.findall(r"^  ([a-z]+) +[A-Z]", run(build / "src" / "viv", "--help").stdout, re.M)
    assert found
    return found


def options(build, verb):
    out = run(build / "src" / "viv", verb, "--help").stdout
    return [o for line in re.findall(r"^  (-.*?)(?:  |$)", out, re.M) for o in re.findall(r"-+[a-z-]+", line)]


def settings(build):
    """Key and default of each setting, as the help has them; "" where it names none."""
    out = run(build / "src" / "vivd", "--help").stdout
    found = re.findall(r"^  --([a-z-]+)=\S+\n +(.*)$", out, re.M)
    assert found
    default = {key: re.search(r"\(default (\S+)\)$", text) for key, text in found}
    return {key.replace("-", "_"): m[1] if m else "" for key, m in default.items()}


def allowed(build, key):
    """What vivd says that a setting can be."""
    r = run(build / "src" / "vivd", "config", "--config=/dev/null", f"--{key.replace('_', '-')}={CONTROL}")
    assert r.returncode == 1, key
    return r.stderr.rsplit("; it is ", 1)[1].strip()


def heading(root, key):
    """The line of vivd.conf(5) that begins the paragraph of a setting."""
    match = re.search(rf"^{re.escape(key)} = (.*)$", plain(page(root, "vivd.conf.5")), re.M)
    assert match, f"vivd.conf.5.scd has no {key}"
    return match[1]


def mib(text):
    """Numbers of a text, sizes in MiB: "64M to 64T" is 64 and 67108864."""
    return [int(n) * UNITS[unit] for n, unit in re.findall(r"(\d+)([MGT]?)\b", text)]


def test_each_verb_has_its_place_and_page(root, build):
    missing = [v for v in verbs(build) if not re.search(rf"^\*{v}\*", page(root, "viv.1"), re.M)]
    assert missing == []
    missing = [v for v in verbs(build) if not (root / "doc" / "man" / f"viv-{v}.1.scd").exists()]
    assert missing == []
    for verb in verbs(build):
        text = page(root, f"viv-{verb}.1")
        for part in ("NAME", "SYNOPSIS", "DESCRIPTION", "EXIT STATUS", "EXAMPLES", "SEE ALSO"):
            assert f"\n# {part}\n" in text, (verb, part)


def test_no_page_of_what_is_gone(root, build):
    known = {f"viv-{v}.1.scd" for v in verbs(build)}
    known |= {"viv.1.scd", "viv-agent.8.scd", "viv-build.8.scd", "viv-hook.8.scd", "viv-tls.8.scd", "vivd.8.scd", "vivd.conf.5.scd"}
    assert {p.name for p in pages(root)} == known


def test_each_option_is_in_the_page_of_its_verb(root, build):
    for verb in verbs(build):
        text = plain(page(root, f"viv-{verb}.1"))
        terms = [line for line in text.splitlines() if line.startswith("-")]
        named = {o for line in terms for o in re.findall(r"(?<![\w-])-+[a-z][a-z-]*", line)}
        assert named == set(options(build, verb)), verb


def test_each_setting_is_in_its_page_with_default_and_range(root, build):
    for key, default in settings(build).items():
        text = heading(root, key)
        said = re.search(r"\(default (.*)\)$", text)
        assert said, (key, text)
        assert said[1] == default if default else said[1].startswith("empty"), key
        can_be = allowed(build, key)
        if "number" in can_be or "size" in can_be:
            kind = "number" if "number" in can_be else "size"
            assert text.startswith(f"_{kind}_, "), (key, can_be)
            assert mib(text.split("(")[0]) == mib(can_be)[:2], (key, can_be)
        elif "path" in can_be:
            assert text.startswith("_path_"), key
        elif "|" in can_be or " " not in can_be:
            assert text.startswith(f"_{can_be}_"), (key, can_be)


def test_the_page_has_no_setting_that_vivd_has_not(root, build):
    named = re.findall(r"^([a-z_]+) = .*default", plain(page(root, "vivd.conf.5")), re.M)
    assert sorted(named) == sorted(settings(build))


def test_each_command_and_flag_of_vivd_is_in_its_page(root, build):
    out = run(build / "src" / "vivd", "--help").stdout.split("Settings;")[0]
    text = plain(page(root, "vivd.8"))
    for word in re.findall(r"^  vivd ([a-z]+)", out, re.M) + re.findall(r"--[a-z-]+", out):
        assert re.search(rf"^(.*, )?{word}\b", text, re.M), word


def test_the_example_has_all_settings_with_their_defaults(root, build, tmp_path):
    example = root / "dist" / "vivd.conf.example"
    lines = re.findall(r"^#([a-z_]+ =.*)$", example.read_text(), re.M)
    assert {l.split(" =")[0]: l.split(" =")[1].strip() for l in lines} == settings(build)
    used = tmp_path / "vivd.conf"
    for text in (example.read_text(), "\n".join(lines)):
        used.write_text(text)
        r = run(build / "src" / "vivd", "config", f"--config={used}")
        assert (r.returncode, r.stderr) == (0, "")


def test_pages_are_well_formed(root):
    if shutil.which("scdoc") is None:
        pytest.skip("scdoc is missing")
    for path in pages(root):
        r = subprocess.run(["scdoc"], stdin=open(path), capture_output=True, text=True)
        assert r.returncode == 0, f"{path.name}: {r.stderr}"
        assert re.search(rf'^\.TH "{path.name.split(".scd")[0][:-2]}" "{path.name[-5]}"', r.stdout, re.M)
        if shutil.which("mandoc"):
            lint = subprocess.run(["mandoc", "-T", "lint", "-W", "warning"], input=r.stdout,
                                  capture_output=True, text=True)
            assert lint.returncode == 0, f"{path.name}: {lint.stdout}"


def test_marks_are_not_cut_short(root):
    """An underscore inside of _..._ ends it early, unseen: what is shown has to have the same words."""
    for path in pages(root):
        for line in path.read_text().splitlines():
            assert len(line.expandtabs(8)) <= MAN_COLUMNS, (path.name, line)
            assert not re.search(r"_<|>_\w", line.replace("\\_", "")), (path.name, line)


def test_pages_point_to_pages_that_are(root):
    ours = {p.name.removesuffix(".scd") for p in pages(root)}
    others = {"systemctl.1", "sysusers.d.5"}
    for path in pages(root):
        for name, section in re.findall(r"\*([a-z.-]+)\*\((\d)\)", path.read_text()):
            assert f"{name}.{section}" in ours | others, (path.name, name)


def test_meson_knows_all_pages(root):
    listed = re.findall(r"^  '(.*\.\d)',$", (root / "doc" / "man" / "meson.build").read_text(), re.M)
    assert sorted(listed) == sorted(p.name.removesuffix(".scd") for p in pages(root))
