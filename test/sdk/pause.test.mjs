// SPDX-License-Identifier: Apache-2.0
// Pausing, and going on.
import assert from 'node:assert/strict'
import { after, before } from 'node:test'
import { counter, isError, Sandbox, test, until } from './lib.mjs'

let sbx

before(async () => {
  sbx = await Sandbox.create({ timeoutMs: 900_000, metadata: { a: 'b' }, envs: { WHO: 'me' } })
})

after(() => sbx.kill())

const count = async (box) => Number(await box.files.read('/tmp/count'))
const bootId = async (box) => (await box.commands.run('cat /proc/sys/kernel/random/boot_id')).stdout

async function states(box, state) {
  const pages = Sandbox.list({ query: { metadata: { a: 'b' }, state: [state] } })
  return (await pages.nextItems()).some((info) => info.sandboxId === box.sandboxId)
}

test('pause keeps processes, memory and files', async () => {
  await sbx.commands.run(counter, { background: true })
  await until(() => sbx.files.exists('/tmp/count'), 'it counts')
  await sbx.files.write('file', 'kept')
  const boot = await bootId(sbx)
  const counted = await count(sbx)
  assert.notEqual(await sbx.pause(), false)
  assert.equal(await states(sbx, 'paused'), true)
  assert.equal(await states(sbx, 'running'), false)
  const again = await Sandbox.connect(sbx.sandboxId, { timeoutMs: 900_000 })
  assert.equal(again.sandboxId, sbx.sandboxId)
  assert.equal(await bootId(again), boot)
  assert.equal(await again.files.read('file'), 'kept')
  assert.equal((await again.commands.run('echo $WHO')).stdout, 'me\n')
  const now = await count(again)
  assert.ok(now >= counted)
  await until(async () => (await count(again)) > now, 'it counts on')
  const info = await again.getInfo()
  assert.deepEqual([info.state, info.metadata], ['running', { a: 'b' }])
})

test('a paused sandbox does not run', async () => {
  await sbx.pause()
  assert.equal(await sbx.isRunning(), false)
  assert.equal(await sbx.pause(), false)
  assert.equal(await Sandbox.pause(sbx.sandboxId), false)
  assert.equal((await sbx.getInfo()).state, 'paused')
  await assert.rejects(sbx.setTimeout(60_000), isError('SandboxNotFoundError'))
  await assert.rejects(sbx.files.read('file'))
  await sbx.connect({ timeoutMs: 900_000 })
  assert.equal(await sbx.isRunning(), true)
  assert.equal(await sbx.files.read('file'), 'kept')
})

test('pause without memory keeps the disk', async () => {
  const boot = await bootId(sbx)
  await Sandbox.pause(sbx.sandboxId, { keepMemory: false })
  await sbx.connect({ timeoutMs: 900_000 })
  assert.notEqual(await bootId(sbx), boot)
  assert.equal(await sbx.files.read('file'), 'kept')
  assert.equal((await sbx.commands.run('echo $WHO')).stdout, 'me\n')
})

test('a sandbox may be paused at its deadline', async () => {
  const box = await Sandbox.create({ timeoutMs: 5_000, metadata: { a: 'b' }, lifecycle: { onTimeout: 'pause' } })
  await until(() => states(box, 'paused'), 'it is paused')
  await box.connect({ timeoutMs: 300_000 })
  assert.equal((await box.commands.run('echo there')).stdout, 'there\n')
  assert.equal(await box.kill(), true)
})

test('a request wakes a sandbox that resumes by itself', async () => {
  const lifecycle = { onTimeout: 'pause', autoResume: true }
  const box = await Sandbox.create({ timeoutMs: 300_000, metadata: { a: 'b' }, lifecycle })
  await box.files.write('file', 'woken')
  await box.pause()
  assert.equal(await box.files.read('file'), 'woken')
  assert.equal(await states(box, 'running'), true)
  assert.equal(await box.kill(), true)
})

test('a paused sandbox can be killed', async () => {
  const box = await Sandbox.create()
  await box.pause()
  assert.equal(await box.kill(), true)
  assert.equal(await box.kill(), false)
  await assert.rejects(box.pause(), isError('SandboxNotFoundError'))
  await assert.rejects(box.connect(), isError('SandboxNotFoundError'))
})
