// SPDX-License-Identifier: Apache-2.0
// Snapshots: sandboxes from what another one was.
import assert from 'node:assert/strict'
import { after, before } from 'node:test'
import { counter, isError, Sandbox, test, unique, until } from './lib.mjs'

let sbx
const name = unique('snap')

before(async () => {
  sbx = await Sandbox.create({ timeoutMs: 900_000, metadata: { a: 'b' }, envs: { WHO: 'me', COLOUR: 'red' } })
  await sbx.commands.run(counter, { background: true })
  await until(() => sbx.files.exists('/tmp/count'), 'it counts')
})

after(async () => {
  await sbx.kill()
  for (const info of await all()) await Sandbox.deleteSnapshot(info.snapshotId)
})

const count = async (box) => Number(await box.files.read('/tmp/count'))

async function countsOn(box) {
  const now = await count(box)
  await until(async () => (await count(box)) > now, 'it counts on')
}

/** What there is of the source, page by page. */
async function all(opts = {}) {
  const pages = sbx.listSnapshots(opts)
  const found = []
  while (pages.hasNext) found.push(...(await pages.nextItems()))
  return found
}

test('createSnapshot keeps what runs, and the sandbox goes on', async () => {
  await sbx.files.write('file', 'common')
  const before = await count(sbx)
  const made = await sbx.createSnapshot({ name })
  assert.equal(made.snapshotId, `${name}:default`)
  assert.deepEqual(made.names, [`${name}:default`])
  await countsOn(sbx)
  const other = await Sandbox.create(made.snapshotId, { timeoutMs: 300_000, envs: { WHO: 'you' }, metadata: { c: 'd' } })
  assert.notEqual(other.sandboxId, sbx.sandboxId)
  assert.equal(await other.files.read('file'), 'common')
  assert.ok((await count(other)) >= before)
  await countsOn(other)
  assert.equal((await other.commands.run('echo $WHO $COLOUR')).stdout, 'you red\n')
  assert.deepEqual((await other.getInfo()).metadata, { c: 'd' })
  await other.files.write('file', 'other')
  assert.equal(await sbx.files.read('file'), 'common')
  assert.equal(await other.kill(), true)
})

test('createSnapshot by the id of a sandbox, without a name', async () => {
  const made = await Sandbox.createSnapshot(sbx.sandboxId)
  assert.deepEqual(made.names, [])
  const other = await Sandbox.create(made.snapshotId)
  await countsOn(other)
  assert.equal(await Sandbox.deleteSnapshot(made.snapshotId), true)
  await countsOn(other)
  await other.kill()
})

test('listSnapshots lists in pages what is of the sandbox', async () => {
  await sbx.createSnapshot({ name: `${name}:v1` })
  const ids = [`${name}:v1`, `${name}:default`]
  assert.deepEqual((await all()).map((info) => info.snapshotId), ids)
  assert.deepEqual((await all({ limit: 1 })).map((info) => info.snapshotId), ids)
})

test('static listSnapshots finds one by its name', async () => {
  const pages = Sandbox.listSnapshots({ sandboxId: sbx.sandboxId, name: `${name}:v1` })
  const found = await pages.nextItems()
  assert.ok(found.some((info) => info.snapshotId === `${name}:v1`))
  assert.deepEqual(await Sandbox.listSnapshots({ sandboxId: 'inosuch' }).nextItems(), [])
})

test('deleteSnapshot says whether there was one', async () => {
  assert.equal(await Sandbox.deleteSnapshot(`${name}:v1`), true)
  assert.equal(await Sandbox.deleteSnapshot(`${name}:v1`), false)
  await assert.rejects(Sandbox.create(`${name}:v1`), /404/)
})

test('what is refused', async () => {
  await assert.rejects(sbx.createSnapshot({ name: ':x' }), /400: /)
  await assert.rejects(sbx.createSnapshot({ name: 'base' }), /409: /)
  const gone = await Sandbox.create()
  await gone.kill()
  await assert.rejects(gone.createSnapshot(), isError('SandboxNotFoundError'))
})
