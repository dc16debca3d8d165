// SPDX-License-Identifier: Apache-2.0
// Forks: sandboxes that go on from where one is.
import assert from 'node:assert/strict'
import { after, before } from 'node:test'
import { counter, isError, Sandbox, sdk, test, until } from './lib.mjs'

let sbx

before(async () => {
  sbx = await Sandbox.create({ timeoutMs: 600_000, metadata: { a: 'b' }, envs: { WHO: 'me' } })
})

after(() => sbx.kill())

const count = async (box) => Number(await box.files.read('/tmp/count'))

async function countsOn(box) {
  const now = await count(box)
  await until(async () => (await count(box)) > now, 'it counts on')
}

test('children go on from where it is', async () => {
  await sbx.commands.run(counter, { background: true })
  await until(() => sbx.files.exists('/tmp/count'), 'it counts')
  await sbx.files.write('file', 'common')
  const before = await count(sbx)
  const results = await sbx.fork({ count: 2, timeoutMs: 300_000 })
  assert.equal(results.length, 2)
  const children = results.map((r) => r.sandbox ?? r)
  for (const child of children) {
    assert.notEqual(child.sandboxId, sbx.sandboxId)
    assert.equal(await child.files.read('file'), 'common')
    assert.equal((await child.commands.run('echo $WHO')).stdout, 'me\n')
    assert.ok((await count(child)) >= before)
    await countsOn(child)
    assert.deepEqual((await child.getInfo()).metadata, { a: 'b' })
    await child.files.write('file', child.sandboxId)
  }
  for (const child of children) assert.equal(await child.files.read('file'), child.sandboxId)
  assert.equal(await sbx.files.read('file'), 'common')
  await countsOn(sbx)
  for (const child of children) assert.equal(await child.kill(), true)
})

test('by its id', async () => {
  const [result] = await Sandbox.fork(sbx.sandboxId)
  const child = result.sandbox ?? result
  assert.equal(await child.isRunning(), true)
  await child.kill()
})

test('what is refused', async () => {
  await assert.rejects(sbx.fork({ count: 0 }))
  await assert.rejects(sbx.fork({ count: 101 }), /101|100/)
  const gone = await Sandbox.create()
  await gone.kill()
  await assert.rejects(gone.fork(), isError('SandboxNotFoundError'))
})
