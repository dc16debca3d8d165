// SPDX-License-Identifier: Apache-2.0
import assert from 'node:assert/strict'
import { before } from 'node:test'
import { isError, sdk, shared, test, until } from './lib.mjs'

let sbx

before(async () => {
  sbx = await shared()
})

/** A terminal whose output is kept. */
async function terminal(opts = {}) {
  const decoder = new TextDecoder()
  const t = { text: '' }
  t.onData = (data) => void (t.text += decoder.decode(data, { stream: true }))
  t.handle = await sbx.pty.create({ cols: 80, rows: 24, onData: t.onData, timeoutMs: 60_000, ...opts })
  t.pid = t.handle.pid
  t.type = (text) => sbx.pty.sendInput(t.pid, new TextEncoder().encode(text))
  t.sees = (text) => until(() => t.text.includes(text), `'${text}' on the terminal`)
  return t
}

test('create starts a shell on a terminal', async () => {
  const t = await terminal()
  await t.type('tty; stty size; echo "[$((6 * 7))]"; exit\n')
  await t.sees('[42]')
  assert.match(t.text, /\/dev\/pts\/\d+/)
  assert.match(t.text, /24 80/)
  assert.equal((await t.handle.wait()).exitCode, 0)
})

test('create takes user, cwd and envs', async () => {
  const t = await terminal({ user: 'root', cwd: '/usr/lib', envs: { WORD: 'spoken' } })
  await t.type('echo "<$(id -un) $PWD $WORD>"; exit\n')
  await t.sees('<root /usr/lib spoken>')
  await t.handle.wait()
})

test('resize is seen by the shell', async () => {
  const t = await terminal()
  await sbx.pty.resize(t.pid, { cols: 132, rows: 43 })
  await t.type('echo "<$(stty size)>"; exit\n')
  await t.sees('<43 132>')
  await t.handle.wait()
})

test('an interrupt typed reaches the program', async () => {
  const t = await terminal()
  // Until the shell has given the terminal to its job, the interrupt is the shell's, and the job may never see it.
  await t.type(`python3 -c 'import os, time
while os.tcgetpgrp(0) != os.getpgrp(): time.sleep(0.01)
print("ready%d" % 1, flush=True)
time.sleep(300)'\n`)
  await t.sees('ready1')
  await t.type('\x03')
  await t.sees('KeyboardInterrupt')
  await t.type('echo "status=$?."; exit\n')
  await t.sees('status=130.')
  assert.equal((await t.handle.wait()).exitCode, 0)
})

test('kill ends a terminal', async () => {
  const t = await terminal()
  assert.equal(await sbx.pty.kill(t.pid), true)
  await assert.rejects(t.handle.wait(), (e) => e instanceof sdk.CommandExitError)
  assert.equal(await sbx.pty.kill(t.pid), false)
})

test('connect joins a terminal', async () => {
  const t = await terminal()
  await t.handle.disconnect()
  let text = ''
  const again = await sbx.pty.connect(t.pid, { onData: (data) => void (text += new TextDecoder().decode(data)) })
  assert.equal(again.pid, t.pid)
  await t.type('echo "back"$((1)); exit\n')
  await until(() => text.includes('back1'), 'output after connect')
  await again.wait()
})

test('connect to an unknown terminal is not found', async () => {
  await assert.rejects(sbx.pty.connect(4_000_000, { onData() {} }), isError('NotFoundError'))
})

test('sendInput to an unknown terminal is not found', async () => {
  await assert.rejects(sbx.pty.sendInput(4_000_000, new Uint8Array([10])), isError('NotFoundError'))
})

test('a terminal is in the list of commands', async () => {
  const t = await terminal()
  assert.ok((await sbx.commands.list()).some((p) => p.pid === t.pid))
  await sbx.pty.kill(t.pid)
})
