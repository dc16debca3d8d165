// SPDX-License-Identifier: Apache-2.0
import assert from 'node:assert/strict'
import { before } from 'node:test'
import { isError, sdk, shared, test, unique, until } from './lib.mjs'

let sbx

before(async () => {
  sbx = await shared()
})

test('run returns output and exit code', async () => {
  const result = await sbx.commands.run('echo out; echo err >&2')
  assert.equal(result.exitCode, 0)
  assert.equal(result.stdout, 'out\n')
  assert.equal(result.stderr, 'err\n')
})

test('run streams to its callbacks while the command runs', async () => {
  const out = []
  const err = []
  const go = unique('/tmp/go')
  const done = sbx.commands.run(`echo one; echo two >&2; until [ -e ${go} ]; do sleep 0.1; done; echo three`, {
    onStdout: (s) => void out.push(s),
    onStderr: (s) => void err.push(s),
  })
  await until(() => out.join('') === 'one\n' && err.join('') === 'two\n', 'output before the end')
  await sbx.commands.run(`touch ${go}`)
  assert.equal((await done).stdout, 'one\nthree\n')
  assert.equal(out.join(''), 'one\nthree\n')
})

test('an exit code is a CommandExitError', async () => {
  await assert.rejects(sbx.commands.run('echo out; echo err >&2; exit 7'), (e) => {
    assert.ok(e instanceof sdk.CommandExitError)
    assert.equal(e.exitCode, 7)
    assert.equal(e.stdout, 'out\n')
    assert.equal(e.stderr, 'err\n')
    return true
  })
})

test('a signal ends with an error that names it', async () => {
  await assert.rejects(sbx.commands.run('kill -SEGV $$'), (e) => {
    assert.ok(e instanceof sdk.CommandExitError)
    assert.match(e.error ?? '', /signal/)
    return true
  })
})

test('a command that is not found exits with 127', async () => {
  await assert.rejects(sbx.commands.run('no-such-command'), { exitCode: 127 })
})

test('the default user is user, in its home', async () => {
  const { stdout } = await sbx.commands.run('id -un; pwd; echo "$HOME $USER $LOGNAME"')
  assert.equal(stdout, 'user\n/home/user\n/home/user user user\n')
})

test('user runs as another user', async () => {
  const { stdout } = await sbx.commands.run('id -un; id -u; echo $HOME; pwd', { user: 'root' })
  assert.equal(stdout, 'root\n0\n/root\n/root\n')
})

test('the default user may become root without a password', async () => {
  assert.equal((await sbx.commands.run('sudo -n id -u')).stdout, '0\n')
})

test('an unknown user is refused', async () => {
  await assert.rejects(sbx.commands.run('true', { user: 'nobody-here' }), isError('AuthenticationError', /nobody-here/))
})

test('cwd is where the command runs', async () => {
  assert.equal((await sbx.commands.run('pwd', { cwd: '/usr/lib' })).stdout, '/usr/lib\n')
})

test('a cwd that is missing is refused and named', async () => {
  await assert.rejects(sbx.commands.run('pwd', { cwd: '/no/such/dir' }),
    isError('InvalidArgumentError', /\/no\/such\/dir/))
})

test('envs are set for one command', async () => {
  const { stdout } = await sbx.commands.run('printf %s "$A|$B"', { envs: { A: 'x y', B: '$HOME "q"' } })
  assert.equal(stdout, 'x y|$HOME "q"')
  assert.equal((await sbx.commands.run('printf %s "${A-unset}"')).stdout, 'unset')
})

test('timeoutMs ends the command', async () => {
  const mark = unique()
  await assert.rejects(sbx.commands.run(`exec -a ${mark} sleep 100`, { timeoutMs: 1500 }), isError('TimeoutError'))
  await until(async () => !(await sbx.commands.list()).some((p) => p.args.join(' ').includes(mark)), 'it is gone')
})

test('unicode comes through whole', async () => {
  const text = 'žluťoučký kůň 🐎 '.repeat(2000)
  const { stdout } = await sbx.commands.run(`printf 'žluťoučký kůň 🐎 %.0s' $(seq 2000)`)
  assert.equal(stdout, text)
})

test('large output comes through whole', async () => {
  const { stdout } = await sbx.commands.run("head -c 3000000 /dev/zero | tr '\\0' x")
  assert.equal(stdout.length, 3_000_000)
  assert.equal(/^x*$/.test(stdout), true)
})

test('background returns at once and wait returns the result', async () => {
  const go = unique('/tmp/go')
  const handle = await sbx.commands.run(`until [ -e ${go} ]; do sleep 0.1; done; echo done`, { background: true })
  assert.ok(handle.pid > 1)
  assert.equal(handle.exitCode, undefined)
  await sbx.commands.run(`touch ${go}`)
  const result = await handle.wait()
  assert.equal(result.stdout, 'done\n')
  assert.equal(handle.exitCode, 0)
})

test('wait throws for an exit code', async () => {
  const handle = await sbx.commands.run('echo gone >&2; exit 3', { background: true })
  await assert.rejects(handle.wait(), { exitCode: 3, stderr: 'gone\n' })
})

test('kill ends a command', async () => {
  const handle = await sbx.commands.run('sleep 300', { background: true })
  assert.equal(await handle.kill(), true)
  await assert.rejects(handle.wait(), (e) => e instanceof sdk.CommandExitError)
  assert.equal(await handle.kill(), false)
})

test('kill of an unknown pid is false', async () => {
  assert.equal(await sbx.commands.kill(4_000_000), false)
})

test('list shows what runs', async () => {
  const handle = await sbx.commands.run('sleep 301', { background: true, envs: { E: '1' }, cwd: '/tmp' })
  const found = (await sbx.commands.list()).find((p) => p.pid === handle.pid)
  assert.equal(found.cmd, '/bin/bash')
  assert.deepEqual(found.args, ['-l', '-c', 'sleep 301'])
  assert.equal(found.cwd, '/tmp')
  assert.equal(found.envs.E, '1')
  assert.equal(await sbx.commands.kill(handle.pid), true)
  await until(async () => !(await sbx.commands.list()).some((p) => p.pid === handle.pid), 'it is gone')
})

test('sendStdin and closeStdin feed a command', async () => {
  const handle = await sbx.commands.run('cat', { background: true, stdin: true })
  await sbx.commands.sendStdin(handle.pid, 'first ')
  await handle.sendStdin(new TextEncoder().encode('second\n'))
  await sbx.commands.closeStdin(handle.pid)
  assert.equal((await handle.wait()).stdout, 'first second\n')
})

test('closeStdin of the handle ends the input', async () => {
  const handle = await sbx.commands.run('wc -c', { background: true, stdin: true })
  await handle.sendStdin('x'.repeat(200_000))
  await handle.closeStdin()
  assert.equal((await handle.wait()).stdout.trim(), '200000')
})

test('without stdin a command reads the end of it', async () => {
  assert.equal((await sbx.commands.run('cat; echo end')).stdout, 'end\n')
})

test('sendStdin to an unknown pid is not found', async () => {
  await assert.rejects(sbx.commands.sendStdin(4_000_000, 'x'), isError('NotFoundError'))
})

test('connect joins a command that runs', async () => {
  const first = await sbx.commands.run('read line; echo "got $line"', { background: true, stdin: true })
  const out = []
  const second = await sbx.commands.connect(first.pid, { onStdout: (s) => void out.push(s) })
  assert.equal(second.pid, first.pid)
  await sbx.commands.sendStdin(first.pid, 'word\n')
  assert.equal((await second.wait()).stdout, 'got word\n')
  assert.equal((await first.wait()).stdout, 'got word\n')
  assert.equal(out.join(''), 'got word\n')
})

test('connect to an unknown pid is not found', async () => {
  await assert.rejects(sbx.commands.connect(4_000_000), isError('NotFoundError'))
})

test('disconnect leaves the command running', async () => {
  const handle = await sbx.commands.run('read line; echo "late $line"', { background: true, stdin: true })
  await handle.disconnect()
  const again = await sbx.commands.connect(handle.pid)
  await again.sendStdin('reader\n')
  assert.equal((await again.wait()).stdout, 'late reader\n')
})

test('many commands at once', async () => {
  const numbers = Array.from({ length: 20 }, (_, i) => i)
  const results = await Promise.all(numbers.map((i) => sbx.commands.run(`echo ${i}`)))
  assert.deepEqual(results.map((r) => Number(r.stdout)), numbers)
})
