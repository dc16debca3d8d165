// SPDX-License-Identifier: Apache-2.0
import assert from 'node:assert/strict'
import { before } from 'node:test'
import { isError, sdk, shared, test, unique, until } from './lib.mjs'

const { CREATE, WRITE, REMOVE, RENAME, CHMOD } = sdk.FilesystemEventType
let sbx

before(async () => {
  sbx = await shared()
})

/** A directory that is watched; `saw` waits for an event. */
async function watched(opts) {
  const dir = `/home/user/${unique('watch')}`
  const events = []
  await sbx.files.makeDir(dir)
  const handle = await sbx.files.watchDir(dir, (e) => void events.push(e), opts)
  const saw = (type, name) =>
    until(() => events.find((e) => e.type === type && e.name === name), `${type} of ${name}`)
  return { dir, events, handle, saw }
}

test('watchDir tells of a new file and what is written', async () => {
  const w = await watched()
  await sbx.files.write(`${w.dir}/new.txt`, 'x')
  await w.saw(CREATE, 'new.txt')
  await w.saw(WRITE, 'new.txt')
  await w.handle.stop()
})

test('watchDir tells of chmod, rename and remove', async () => {
  const w = await watched()
  await sbx.files.write(`${w.dir}/file`, 'x')
  await sbx.commands.run(`chmod 600 ${w.dir}/file`)
  await w.saw(CHMOD, 'file')
  await sbx.files.rename(`${w.dir}/file`, `${w.dir}/other`)
  await w.saw(RENAME, 'file')
  await w.saw(CREATE, 'other')
  await sbx.files.remove(`${w.dir}/other`)
  await w.saw(REMOVE, 'other')
  await w.handle.stop()
})

test('watchDir is silent about what is below', async () => {
  const w = await watched()
  await sbx.files.write(`${w.dir}/sub/inner`, 'x')
  await sbx.files.write(`${w.dir}/last`, 'x')
  await w.saw(WRITE, 'last')
  assert.ok(!w.events.some((e) => e.name.includes('inner')))
  await w.handle.stop()
})

test('watchDir with recursion follows new directories', async () => {
  const w = await watched({ recursive: true })
  await sbx.files.write(`${w.dir}/one/two/three.txt`, 'x')
  await w.saw(CREATE, 'one')
  await w.saw(CREATE, 'one/two/three.txt')
  await sbx.files.write(`${w.dir}/one/two/three.txt`, 'yy')
  await w.saw(WRITE, 'one/two/three.txt')
  await w.handle.stop()
})

test('watchDir with recursion misses nothing in a tree made at once', async () => {
  const w = await watched({ recursive: true })
  await sbx.commands.run(`cd ${w.dir} && for i in 1 2 3 4 5; do mkdir -p d$i/e/f && echo x > d$i/e/f/g; done`)
  for (const i of [1, 2, 3, 4, 5]) await w.saw(CREATE, `d${i}/e/f/g`)
  await w.handle.stop()
})

test('watchDir with includeEntry describes the entry', async () => {
  const w = await watched({ includeEntry: true })
  await sbx.files.write(`${w.dir}/entry`, 'four')
  const event = await until(() => w.events.find((e) => e.type === WRITE && e.entry?.size === 4), 'an entry')
  assert.equal(event.entry.path, `${w.dir}/entry`)
  assert.equal(event.entry.type, sdk.FileType.FILE)
  assert.equal(event.entry.owner, 'user')
  await w.handle.stop()
})

test('stop ends the events and calls onExit', async () => {
  let exited = false
  const w = await watched({ onExit: () => void (exited = true) })
  await w.handle.stop()
  await until(() => exited, 'onExit')
  const before = w.events.length
  await sbx.files.write(`${w.dir}/after`, 'x')
  assert.equal(w.events.length, before)
})

test('timeoutMs ends a watch', async () => {
  let exited = false
  await watched({ timeoutMs: 1500, onExit: () => void (exited = true) })
  await until(() => exited, 'onExit')
})

test('watchDir of what is missing is not found', async () => {
  await assert.rejects(sbx.files.watchDir('/no/such/dir', () => {}), isError('FileNotFoundError'))
})

test('watchDir of a file is refused', async () => {
  await assert.rejects(sbx.files.watchDir('/etc/passwd', () => {}), isError('InvalidArgumentError'))
})
