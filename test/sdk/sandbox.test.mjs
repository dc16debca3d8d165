// SPDX-License-Identifier: Apache-2.0
import assert from 'node:assert/strict'
import { after, before } from 'node:test'
import { agentUrl, getByHost, isError, named, Sandbox, serve, shared, test, unique, until } from './lib.mjs'

const tag = unique()
let sbx
let other

before(async () => {
  other = await shared()
})
after(async () => {
  await sbx?.kill()
})

test('create gives a sandbox that runs', async () => {
  sbx = await Sandbox.create('base', {
    timeoutMs: 600_000,
    metadata: { tag, 'key with space': 'a&b=c/ü' },
    envs: { FLAVOUR: 'sweet & sour', SDK_EMPTY: '' },
  })
  assert.match(sbx.sandboxId, /^[a-z0-9]+$/)
  assert.equal(await sbx.isRunning(), true)
})

test('create without a template takes base', async () => {
  const box = await Sandbox.create({ timeoutMs: 60_000, allowInternetAccess: true })
  try {
    assert.equal((await box.getInfo()).templateId, 'base')
    assert.equal(await box.kill(), true)
    assert.equal(await box.isRunning(), false)
    assert.equal(await box.kill(), false)
  } finally {
    await box.kill()
  }
})

test('create refuses an unknown template', async () => {
  await assert.rejects(Sandbox.create('no-such-template'), (e) => {
    assert.match(e.message, /no-such-template/)
    assert.match(e.message, /404/)
    return true
  })
})

test('another key is refused', async () => {
  const apiKey = `e2b_${'0'.repeat(40)}`
  await assert.rejects(Sandbox.getInfo(sbx.sandboxId, { apiKey }), isError('AuthenticationError'))
  await assert.rejects(Sandbox.create({ apiKey }), isError('AuthenticationError'))
})

test('envs of the sandbox reach commands', async () => {
  const { stdout } = await sbx.commands.run('printf %s "$FLAVOUR:${SDK_EMPTY-unset}"')
  assert.equal(stdout, 'sweet & sour:')
})

test('a sandbox knows that it is one', async () => {
  const { stdout } = await sbx.commands.run('printf %s "$E2B_SANDBOX $E2B_SANDBOX_ID"')
  assert.equal(stdout, `true ${sbx.sandboxId}`)
})

test('getInfo tells of template, state, times, size and metadata', async () => {
  const info = await sbx.getInfo()
  assert.equal(info.sandboxId, sbx.sandboxId)
  assert.equal(info.state, 'running')
  assert.deepEqual(info.metadata, { tag, 'key with space': 'a&b=c/ü' })
  assert.ok(info.startedAt instanceof Date && info.endAt instanceof Date)
  const left = info.endAt - Date.now()
  assert.ok(left > 400_000 && left <= 601_000, `${left} ms left`)
  assert.ok(info.cpuCount >= 1 && info.memoryMB >= 64)
  assert.match(info.envdVersion, /^\d+\.\d+\.\d+$/)
})

test('static getInfo and getFullInfo know a sandbox by its id', async () => {
  assert.equal((await Sandbox.getInfo(sbx.sandboxId)).metadata.tag, tag)
  assert.equal((await Sandbox.getFullInfo(sbx.sandboxId)).metadata.tag, tag)
})

test('getInfo of an unknown sandbox is not found', async () => {
  await assert.rejects(Sandbox.getInfo('i0123456789abcdefghij'), isError('SandboxNotFoundError'))
})

test('connect reaches the same sandbox', async () => {
  const same = await Sandbox.connect(sbx.sandboxId)
  await same.commands.run('echo here > /tmp/connect')
  assert.equal((await sbx.commands.run('cat /tmp/connect')).stdout, 'here\n')
})

test('connect only ever extends the timeout', async () => {
  const before = (await sbx.getInfo()).endAt
  await Sandbox.connect(sbx.sandboxId, { timeoutMs: 5_000 })
  assert.equal((await sbx.getInfo()).endAt.getTime(), before.getTime())
  await sbx.connect({ timeoutMs: 900_000 })
  assert.ok((await sbx.getInfo()).endAt - Date.now() > 800_000)
})

test('connect to an unknown sandbox is not found', async () => {
  await assert.rejects(Sandbox.connect('i0123456789abcdefghij'), isError('SandboxNotFoundError'))
})

test('setTimeout moves the deadline both ways', async () => {
  await sbx.setTimeout(3_000_000)
  assert.ok((await sbx.getInfo()).endAt - Date.now() > 2_900_000)
  await Sandbox.setTimeout(sbx.sandboxId, 120_000)
  assert.ok((await sbx.getInfo()).endAt - Date.now() <= 121_000)
})

test('setTimeout of an unknown sandbox is not found', async () => {
  await assert.rejects(Sandbox.setTimeout('i0123456789abcdefghij', 1000), isError('SandboxNotFoundError'))
})

test('a sandbox is secured by a token of its own', async () => {
  const plain = await fetch(`${agentUrl(sbx)}/process.Process/List`, {
    method: 'POST',
    body: '{}',
    headers: {
      'Content-Type': 'application/json',
      'E2b-Sandbox-Id': sbx.sandboxId,
      'E2b-Sandbox-Port': '49983',
    },
  })
  assert.equal(plain.status, 401)
  assert.equal((await plain.json()).code, 401)
})

test('getHost names a port', () => {
  assert.match(sbx.getHost(3000), new RegExp(`^3000-${sbx.sandboxId}\\.`))
})

test('getHost leads to a server in the sandbox', async () => {
  const local = await named(sbx)
  const server = await sbx.commands.run(serve('b"served"', 3000), { background: true, timeoutMs: 0 })
  try {
    const page = await until(async () => {
      const r = await getByHost(local.getHost(3000), '/page')
      return r.status === 200 && r
    }, 'the server answers')
    assert.equal(page.body, 'served')
  } finally {
    await server.kill()
  }
})

test('getHost leads to a server on the loopback of the sandbox', async () => {
  const local = await named(sbx)
  const server = await sbx.commands.run(serve('b"served"', 3001, '127.0.0.1'), { background: true, timeoutMs: 0 })
  try {
    const page = await until(async () => {
      const r = await getByHost(local.getHost(3001), '/page')
      return r.status === 200 && r
    }, 'the server answers')
    assert.equal(page.body, 'served')
  } finally {
    await server.kill()
  }
})

test('a port that nobody listens on is a bad gateway', async () => {
  const local = await named(sbx)
  const { status, body } = await getByHost(local.getHost(3999))
  assert.equal(status, 502)
  assert.match(body, /3999/)
})

test('getMetrics has samples', async () => {
  const metrics = await until(async () => {
    const m = await sbx.getMetrics()
    return m.length > 0 && m
  }, 'a sample')
  const last = metrics.at(-1)
  assert.ok(last.timestamp instanceof Date)
  assert.ok(last.cpuCount >= 1 && last.cpuUsedPct >= 0)
  assert.ok(last.memTotal > last.memUsed && last.memUsed > 0)
  assert.ok(last.diskTotal > last.diskUsed && last.diskUsed > 0)
  const future = await Sandbox.getMetrics(sbx.sandboxId, { start: new Date(Date.now() + 3_600_000) })
  assert.deepEqual(future, [])
})

test('getMetrics of an unknown sandbox is not found', async () => {
  await assert.rejects(Sandbox.getMetrics('i0123456789abcdefghij'), isError('SandboxNotFoundError'))
})

test('getMcpUrl names its port', () => {
  assert.match(sbx.getMcpUrl(), new RegExp(`50005-${sbx.sandboxId}\\..*/mcp$`))
})

test('getMcpToken reads what a gateway left', async () => {
  await sbx.files.write('/etc/mcp-gateway/.token', 'the token', { user: 'root' })
  assert.equal(await sbx.getMcpToken(), 'the token')
})

test('kill ends what runs in the sandbox and nothing else', async () => {
  const here = await sbx.commands.run('sleep 300', { background: true, timeoutMs: 0 })
  const there = await other.commands.run('sleep 300', { background: true, timeoutMs: 0 })
  const ended = assert.rejects(here.wait(), (e) => e instanceof Error)
  assert.equal(await Sandbox.kill(sbx.sandboxId), true)
  await ended
  assert.equal(await sbx.isRunning(), false)
  assert.equal(await sbx.kill(), false)
  assert.equal(await Sandbox.kill(sbx.sandboxId), false)
  assert.ok((await other.commands.list()).some((p) => p.pid === there.pid))
  await there.kill()
  await assert.rejects(sbx.commands.run('true'))
  await assert.rejects(sbx.getInfo(), isError('SandboxNotFoundError'))
})

test('a sandbox is killed at its deadline', async () => {
  const box = await Sandbox.create({ timeoutMs: 600_000 })
  try {
    await box.setTimeout(1_000)
    await until(async () => !(await box.isRunning()), 'it runs no more')
    await until(() => box.getInfo().then(() => false, () => true), 'it is gone')
    assert.equal(await box.kill(), false)
  } finally {
    await box.kill()
  }
})
