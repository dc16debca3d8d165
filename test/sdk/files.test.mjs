// SPDX-License-Identifier: Apache-2.0
import assert from 'node:assert/strict'
import { randomBytes } from 'node:crypto'
import { before } from 'node:test'
import { isError, sdk, shared, test, unique } from './lib.mjs'

let sbx
let dir

before(async () => {
  sbx = await shared()
  dir = `/home/user/${unique('files')}`
})

const text = 'žluťoučký kůň 🐎\nsecond line\n'
const bytes = randomBytes(100_000)
const buffer = bytes.buffer.slice(bytes.byteOffset, bytes.byteOffset + bytes.length)

function streamOf(...chunks) {
  return new ReadableStream({
    start(controller) {
      for (const chunk of chunks) controller.enqueue(chunk)
      controller.close()
    },
  })
}

async function gather(stream) {
  const chunks = []
  for await (const chunk of stream) chunks.push(chunk)
  return Buffer.concat(chunks)
}

test('write tells path, name and type', async () => {
  const info = await sbx.files.write(`${dir}/a/b/new.txt`, text)
  assert.equal(info.path, `${dir}/a/b/new.txt`)
  assert.equal(info.name, 'new.txt')
  assert.equal(info.type, sdk.FileType.FILE)
  const { stdout } = await sbx.commands.run(`stat -c '%U %G %a' ${dir}/a ${dir}/a/b/new.txt`)
  assert.equal(stdout, 'user user 755\nuser user 644\n')
})

test('read gives text unless told otherwise', async () => {
  await sbx.files.write(`${dir}/text`, text)
  assert.equal(await sbx.files.read(`${dir}/text`), text)
  assert.equal(await sbx.files.read(`${dir}/text`, { format: 'text' }), text)
})

test('read gives bytes', async () => {
  await sbx.files.write(`${dir}/bytes`, buffer)
  const read = await sbx.files.read(`${dir}/bytes`, { format: 'bytes' })
  assert.ok(read instanceof Uint8Array)
  assert.ok(bytes.equals(read))
})

test('read gives a blob', async () => {
  await sbx.files.write(`${dir}/blob`, new Blob([bytes]))
  const read = await sbx.files.read(`${dir}/blob`, { format: 'blob' })
  assert.ok(bytes.equals(Buffer.from(await read.arrayBuffer())))
})

test('read gives a stream', async () => {
  await sbx.files.write(`${dir}/stream`, streamOf(bytes.subarray(0, 7), bytes.subarray(7)))
  const read = await sbx.files.read(`${dir}/stream`, { format: 'stream' })
  assert.ok(bytes.equals(await gather(read)))
})

test('an empty file is read in every format', async () => {
  await sbx.files.write(`${dir}/empty`, '')
  assert.equal(await sbx.files.read(`${dir}/empty`), '')
  assert.equal((await sbx.files.read(`${dir}/empty`, { format: 'bytes' })).length, 0)
  assert.equal((await sbx.files.read(`${dir}/empty`, { format: 'blob' })).size, 0)
  assert.equal((await gather(await sbx.files.read(`${dir}/empty`, { format: 'stream' }))).length, 0)
})

test('read with gzip gives the same', async () => {
  const long = text.repeat(5000)
  await sbx.files.write(`${dir}/gzip-read`, long)
  assert.equal(await sbx.files.read(`${dir}/gzip-read`, { gzip: true }), long)
})

test('write with gzip gives the same', async () => {
  const long = text.repeat(5000)
  await sbx.files.write(`${dir}/gzip-write`, long, { gzip: true })
  assert.equal(await sbx.files.read(`${dir}/gzip-write`), long)
})

test('write as an octet stream gives the same', async () => {
  const info = await sbx.files.write(`${dir}/octets`, buffer, { useOctetStream: true })
  assert.equal(info.path, `${dir}/octets`)
  assert.ok(bytes.equals(await sbx.files.read(`${dir}/octets`, { format: 'bytes' })))
})

test('a large file goes both ways', async () => {
  const piece = randomBytes(1 << 20)
  await sbx.files.write(`${dir}/large`, streamOf(...Array(24).fill(piece)), { requestTimeoutMs: 0 })
  const { stdout } = await sbx.commands.run(`stat -c %s ${dir}/large`)
  assert.equal(stdout, `${24 << 20}\n`)
  let at = 0
  for await (const chunk of await sbx.files.read(`${dir}/large`, { format: 'stream' })) {
    for (const byte of chunk) {
      if (byte !== piece[at++ % piece.length]) assert.fail(`byte ${at - 1} differs`)
    }
  }
  assert.equal(at, 24 << 20)
})

test('write replaces the content and keeps the inode', async () => {
  await sbx.files.write(`${dir}/again`, 'a long first version')
  const inode = async () => (await sbx.commands.run(`stat -c %i ${dir}/again`)).stdout
  const first = await inode()
  await sbx.files.write(`${dir}/again`, 'short')
  assert.equal(await sbx.files.read(`${dir}/again`), 'short')
  assert.equal(await inode(), first)
})

test('write takes many files', async () => {
  const files = [
    { path: `${dir}/many/one.txt`, data: 'one' },
    { path: `${dir}/many/deep/two.bin`, data: buffer },
    { path: `${dir}/many/three`, data: new Blob(['three']) },
  ]
  const infos = await sbx.files.write(files)
  assert.deepEqual(infos.map((i) => i.path), files.map((f) => f.path))
  assert.equal(await sbx.files.read(`${dir}/many/one.txt`), 'one')
  assert.ok(bytes.equals(await sbx.files.read(`${dir}/many/deep/two.bin`, { format: 'bytes' })))
  assert.equal(await sbx.files.read(`${dir}/many/three`), 'three')
})

test('writeFiles takes streams, and none at all', async () => {
  const infos = await sbx.files.writeFiles([
    { path: `${dir}/s1`, data: streamOf(bytes) },
    { path: `${dir}/s2`, data: 'two' },
  ])
  assert.deepEqual(infos.map((i) => i.name), ['s1', 's2'])
  assert.equal(await sbx.files.read(`${dir}/s2`), 'two')
  assert.deepEqual(await sbx.files.writeFiles([]), [])
})

test('relative paths begin at home', async () => {
  const name = unique('relative')
  assert.equal((await sbx.files.write(name, 'x')).path, `/home/user/${name}`)
  assert.equal(await sbx.files.read(`~/${name}`), 'x')
  assert.equal((await sbx.files.getInfo(name)).path, `/home/user/${name}`)
  await sbx.files.remove(name)
})

test('user owns what it writes and resolves its home', async () => {
  const name = unique('of-root')
  const info = await sbx.files.write(name, 'x', { user: 'root' })
  assert.equal(info.path, `/root/${name}`)
  assert.equal((await sbx.files.getInfo(info.path, { user: 'root' })).owner, 'root')
  await sbx.files.remove(info.path, { user: 'root' })
})

test('an unknown user is refused', async () => {
  await assert.rejects(sbx.files.read('/etc/passwd', { user: 'nobody-here' }),
    isError('AuthenticationError', /nobody-here/))
  await assert.rejects(sbx.files.list('/', { user: 'nobody-here' }),
    isError('AuthenticationError', /nobody-here/))
})

test('metadata is kept with the file and read back', async () => {
  const info = await sbx.files.write(`${dir}/labelled`, 'x', { metadata: { author: 'me', stage: 'one two' } })
  assert.deepEqual(info.metadata, { author: 'me', stage: 'one two' })
  assert.deepEqual((await sbx.files.getInfo(`${dir}/labelled`)).metadata, { author: 'me', stage: 'one two' })
  await sbx.files.write(`${dir}/labelled`, 'y', { metadata: { stage: 'three' } })
  assert.deepEqual((await sbx.files.getInfo(`${dir}/labelled`)).metadata, { stage: 'three' })
})

test('read of what is missing is not found', async () => {
  await assert.rejects(sbx.files.read(`${dir}/missing`), isError('FileNotFoundError', /missing/))
})

test('read of a directory is refused', async () => {
  await assert.rejects(sbx.files.read('/etc'), isError('InvalidArgumentError'))
})

test('write onto a directory is refused', async () => {
  await sbx.files.makeDir(`${dir}/is-dir`)
  await assert.rejects(sbx.files.write(`${dir}/is-dir`, 'x'), isError('InvalidArgumentError'))
})

test('a full disk is not enough space', async () => {
  const mount = 'mkdir -p /tmp/small && mount -t tmpfs -o size=64k,mode=1777 none /tmp/small'
  await sbx.commands.run(mount, { user: 'root' })
  await assert.rejects(sbx.files.write('/tmp/small/big', buffer), isError('NotEnoughSpaceError'))
  await sbx.commands.run('umount /tmp/small', { user: 'root' })
})

test('odd names are kept', async () => {
  for (const name of ['with space', 'ünïcödé 🐎', 'q?a=b&c#d%20', 'quote"\'s']) {
    assert.equal((await sbx.files.write(`${dir}/odd/${name}`, name)).name, name)
    assert.equal(await sbx.files.read(`${dir}/odd/${name}`), name)
  }
  assert.equal((await sbx.files.list(`${dir}/odd`)).length, 4)
})

test('exists', async () => {
  await sbx.files.write(`${dir}/there`, '')
  assert.equal(await sbx.files.exists(`${dir}/there`), true)
  assert.equal(await sbx.files.exists(dir), true)
  assert.equal(await sbx.files.exists(`${dir}/not-there`), false)
})

test('getInfo of a file', async () => {
  await sbx.files.write(`${dir}/info`, 'twelve bytes')
  await sbx.commands.run(`chmod 640 ${dir}/info`)
  const info = await sbx.files.getInfo(`${dir}/info`)
  assert.equal(info.name, 'info')
  assert.equal(info.type, sdk.FileType.FILE)
  assert.equal(info.path, `${dir}/info`)
  assert.equal(info.size, 12)
  assert.equal(info.mode, 0o640)
  assert.equal(info.permissions, '-rw-r-----')
  assert.equal(info.owner, 'user')
  assert.equal(info.group, 'user')
  assert.ok(Math.abs(info.modifiedTime - Date.now()) < 3_600_000)
  assert.equal(info.symlinkTarget, undefined)
})

test('getInfo of a directory', async () => {
  await sbx.files.makeDir(`${dir}/info-dir`)
  const info = await sbx.files.getInfo(`${dir}/info-dir`)
  assert.equal(info.type, sdk.FileType.DIR)
  assert.equal(info.permissions, 'drwxr-xr-x')
})

test('getInfo of a symbolic link', async () => {
  await sbx.files.write(`${dir}/target`, 'x')
  await sbx.commands.run(`ln -s target ${dir}/link`)
  const info = await sbx.files.getInfo(`${dir}/link`)
  assert.equal(info.path, `${dir}/link`)
  assert.equal(info.symlinkTarget, `${dir}/target`)
})

test('getInfo of what is missing is not found', async () => {
  await assert.rejects(sbx.files.getInfo(`${dir}/missing`), isError('FileNotFoundError'))
})

test('makeDir makes parents, once', async () => {
  assert.equal(await sbx.files.makeDir(`${dir}/m/a/k/e`), true)
  assert.equal(await sbx.files.makeDir(`${dir}/m/a/k/e`), false)
  assert.equal((await sbx.files.getInfo(`${dir}/m/a`)).owner, 'user')
})

test('list has the entries of a directory', async () => {
  await sbx.files.write([
    { path: `${dir}/tree/b.txt`, data: 'b' },
    { path: `${dir}/tree/a/inner.txt`, data: 'inner' },
    { path: `${dir}/tree/a/deep/er.txt`, data: 'er' },
  ])
  const entries = await sbx.files.list(`${dir}/tree`)
  assert.deepEqual(entries.map((e) => [e.name, e.type]), [['a', 'dir'], ['b.txt', 'file']])
  assert.equal(entries[1].path, `${dir}/tree/b.txt`)
  assert.equal(entries[1].size, 1)
})

test('list goes as deep as it is told', async () => {
  const names = async (depth) =>
    (await sbx.files.list(`${dir}/tree`, { depth })).map((e) => e.path.slice(`${dir}/tree/`.length))
  assert.deepEqual(await names(1), ['a', 'b.txt'])
  assert.deepEqual(await names(2), ['a', 'a/deep', 'a/inner.txt', 'b.txt'])
  assert.deepEqual(await names(3), ['a', 'a/deep', 'a/deep/er.txt', 'a/inner.txt', 'b.txt'])
  await assert.rejects(sbx.files.list(`${dir}/tree`, { depth: 0 }), isError('InvalidArgumentError'))
})

test('list of what is missing is not found, of a file is refused', async () => {
  await assert.rejects(sbx.files.list(`${dir}/missing`), isError('FileNotFoundError'))
  await assert.rejects(sbx.files.list('/etc/passwd'), isError('InvalidArgumentError'))
})

test('rename moves files and directories', async () => {
  await sbx.files.write(`${dir}/old`, 'moved')
  const info = await sbx.files.rename(`${dir}/old`, `${dir}/new/place`)
  assert.equal(info.path, `${dir}/new/place`)
  assert.equal(info.name, 'place')
  assert.equal(await sbx.files.exists(`${dir}/old`), false)
  await sbx.files.rename(`${dir}/new`, `${dir}/newer`)
  assert.equal(await sbx.files.read(`${dir}/newer/place`), 'moved')
  await assert.rejects(sbx.files.rename(`${dir}/missing`, `${dir}/x`), isError('FileNotFoundError'))
})

test('remove takes files and whole directories', async () => {
  await sbx.files.write(`${dir}/gone/deep/file`, 'x')
  await sbx.files.remove(`${dir}/gone/deep/file`)
  assert.equal(await sbx.files.exists(`${dir}/gone/deep/file`), false)
  await sbx.files.write(`${dir}/gone/deep/file`, 'x')
  await sbx.files.remove(`${dir}/gone`)
  assert.equal(await sbx.files.exists(`${dir}/gone`), false)
  await sbx.files.remove(`${dir}/gone`)
})

test('downloadUrl works without any header', async () => {
  await sbx.files.write(`${dir}/url.txt`, text)
  const response = await fetch(await sbx.downloadUrl(`${dir}/url.txt`))
  assert.equal(response.status, 200)
  assert.equal(await response.text(), text)
})

test('downloadUrl lives until it expires', async () => {
  await sbx.files.write(`${dir}/url.txt`, text)
  const url = await sbx.downloadUrl(`${dir}/url.txt`, { useSignatureExpiration: 300 })
  assert.equal(await (await fetch(url)).text(), text)
  const dead = await sbx.downloadUrl(`${dir}/url.txt`, { useSignatureExpiration: -10 })
  const late = await fetch(dead)
  assert.equal(late.status, 401)
  assert.match(await late.text(), /expired/)
})

test('a changed downloadUrl is refused', async () => {
  const url = new URL(await sbx.downloadUrl(`${dir}/url.txt`))
  url.searchParams.set('path', '/etc/shadow')
  assert.ok((await fetch(url)).status >= 400)
})

test('downloadUrl names the user', async () => {
  const name = unique('url')
  await sbx.files.write(name, 'of root', { user: 'root' })
  assert.equal(await (await fetch(await sbx.downloadUrl(name, { user: 'root' }))).text(), 'of root')
  await sbx.files.remove(name, { user: 'root' })
})

test('uploadUrl takes a form with a file', async () => {
  const form = new FormData()
  form.append('file', new Blob([bytes]), 'whatever')
  const response = await fetch(await sbx.uploadUrl(`${dir}/up.bin`), { method: 'POST', body: form })
  assert.equal(response.status, 200)
  assert.equal((await response.json())[0].path, `${dir}/up.bin`)
  assert.ok(bytes.equals(await sbx.files.read(`${dir}/up.bin`, { format: 'bytes' })))
})

test('uploadUrl without a path takes it from the form', async () => {
  const form = new FormData()
  form.append('file', new Blob(['named']), `${dir}/from/form.txt`)
  const url = await sbx.uploadUrl(undefined, { useSignatureExpiration: 60 })
  assert.equal((await fetch(url, { method: 'POST', body: form })).status, 200)
  assert.equal(await sbx.files.read(`${dir}/from/form.txt`), 'named')
})

