// SPDX-License-Identifier: Apache-2.0
// What the rules let through is shown where a network is made for it (test/integ): this suite sends
// nothing beyond the host.
import assert from 'node:assert/strict'
import { after, before } from 'node:test'
import { getByHost, isError, Sandbox, sdk, serve, test, until } from './lib.mjs'

let sbx

before(async () => {
  sbx = await Sandbox.create({ timeoutMs: 600_000 })
})
after(async () => {
  await sbx?.kill()
})

test('updateNetwork takes lists of addresses', async () => {
  await sbx.updateNetwork({ allowOut: ['192.0.2.1', '198.51.100.0/24'], denyOut: ['0.0.0.0/0'] })
  const { network } = await sbx.getInfo()
  assert.deepEqual(network.allowOut, ['192.0.2.1', '198.51.100.0/24'])
  assert.deepEqual(network.denyOut, ['0.0.0.0/0'])
})

test('updateNetwork clears what it leaves out', async () => {
  await Sandbox.updateNetwork(sbx.sandboxId, { denyOut: ['203.0.113.0/24'] })
  await Sandbox.updateNetwork(sbx.sandboxId, {})
  const { network } = await sbx.getInfo()
  assert.deepEqual(network?.allowOut ?? [], [])
  assert.deepEqual(network?.denyOut ?? [], [])
})

test('updateNetwork turns the internet off and on', async () => {
  await sbx.updateNetwork({ allowInternetAccess: false })
  assert.equal((await sbx.getInfo()).allowInternetAccess, false)
  await sbx.updateNetwork({ allowInternetAccess: true })
  assert.equal((await sbx.getInfo()).allowInternetAccess, true)
})

test('updateNetwork refuses what is no address', async () => {
  await assert.rejects(sbx.updateNetwork({ denyOut: ['300.1.2.3'] }), /300\.1\.2\.3/)
})

test('updateNetwork refuses domains, rules and an egress proxy by name', async () => {
  await assert.rejects(sbx.updateNetwork({ allowOut: ['example.org'], denyOut: [sdk.ALL_TRAFFIC] }), /example\.org/)
  await assert.rejects(
    sbx.updateNetwork({ rules: { 'example.org': [{ transform: { headers: { A: 'b' } } }] } }), /rules/)
  await assert.rejects(sbx.updateNetwork({ egressProxy: { address: '192.0.2.9:1080' } }), /egressProxy/)
})

test('updateNetwork of an unknown sandbox is not found', async () => {
  await assert.rejects(Sandbox.updateNetwork('i0123456789abcdefghij', {}), isError('SandboxNotFoundError'))
})

test('create takes lists of addresses', async () => {
  const box = await Sandbox.create({ network: { allowOut: ['192.0.2.0/24'], denyOut: [sdk.ALL_TRAFFIC] } })
  try {
    assert.deepEqual((await box.getInfo()).network.allowOut, ['192.0.2.0/24'])
  } finally {
    await box.kill()
  }
})

test('create without internet access says so', async () => {
  const box = await Sandbox.create({ allowInternetAccess: false })
  try {
    assert.equal((await box.getInfo()).allowInternetAccess, false)
  } finally {
    await box.kill()
  }
})

test('ports that are not public ask for the token, and servers see the host they were told of', async () => {
  const box = await Sandbox.create({ network: { allowPublicTraffic: false, maskRequestHost: 'in.example:${PORT}' } })
  try {
    const token = { 'e2b-traffic-access-token': box.trafficAccessToken }
    const host = (await Sandbox.connect(box.sandboxId, { domain: 'localhost' })).getHost(3000)
    assert.deepEqual((await box.getInfo()).network.allowPublicTraffic, false)
    await box.commands.run(serve('head', 3000), { background: true, timeoutMs: 0 })
    const page = await until(async () => {
      const r = await getByHost(host, '/', token)
      return r.status === 200 && r
    }, 'the server answers')
    assert.match(page.body, /^Host: in\.example:3000$/m)
    assert.doesNotMatch(page.body, new RegExp(box.trafficAccessToken))
    for (const headers of [{}, { 'e2b-traffic-access-token': 'x'.repeat(64) }]) {
      const { status, body } = await getByHost(host, '/', headers)
      assert.equal(status, 403)
      assert.equal(JSON.parse(body).sandboxId, box.sandboxId)
    }
  } finally {
    await box.kill()
  }
})
