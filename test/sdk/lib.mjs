// SPDX-License-Identifier: Apache-2.0
// What the test files share. The packages are installed beside the build, not beside this file.

import assert from 'node:assert/strict'
import { randomBytes } from 'node:crypto'
import http from 'node:http'
import { createRequire } from 'node:module'
import { test as register } from 'node:test'

const require = createRequire(`${process.env.SDK_HOME}/`)

/** The package under test: `e2b`, or `e2b-2.45`. */
export const sdk = require(process.env.SDK_PACKAGE)
export const { Sandbox } = sdk

/** Major and minor version of it. */
export const version = require(`${process.env.SDK_PACKAGE}/package.json`).version.split('.').map(Number)

/** node's test, with an end to its patience. */
export function test(name, fn) {
  return register(name, { timeout: 300_000 }, fn)
}

/** A sandbox that several files use and none ends. */
export function shared() {
  return Sandbox.connect(process.env.SDK_SANDBOX, { timeoutMs: 3_600_000 })
}

/** A command that counts in /tmp/count, and runs no other program for it: each costs an emulated guest much. */
export const counter =
  'mkfifo /tmp/tick; exec 3<>/tmp/tick; n=0; ' +
  'while :; do n=$((n+1)); printf %08d $n 1<>/tmp/count; read -t 0.1 -u 3; done'

/** A name that nothing else has. */
export function unique(prefix = 't') {
  return `${prefix}${randomBytes(4).toString('hex')}`
}

/** Waits until `condition` gives something, and returns that. */
export async function until(condition, what, ms = 120_000) {
  const end = Date.now() + ms
  for (;;) {
    const value = await condition()
    if (value) return value
    assert.ok(Date.now() < end, `${what}: not within ${ms} ms`)
    await new Promise((resolve) => setTimeout(resolve, 50))
  }
}

/** Whether an error is of a class of the package, and says something. */
export function isError(name, ...patterns) {
  return (error) => {
    assert.equal(error.name, name, `${error.name}: ${error.message}`)
    assert.ok(error instanceof sdk[name])
    for (const pattern of patterns) assert.match(error.message, pattern)
    return true
  }
}

/**
 * A command that answers each request at a port: with Python's `answer`, made of its `head`. Python's own server
 * takes seconds to be imported where guests are emulated.
 */
export function serve(answer, port, address = '') {
  return `exec python3 -c '
import socket
server = socket.create_server(("${address}", ${port}))
while True:
    client, _ = server.accept()
    head = b""
    while not head.endswith(b"\\r\\n\\r\\n"):
        data = client.recv(4096)
        if not data:
            break
        head += data
    answer = ${answer}
    client.sendall(b"HTTP/1.1 200 OK\\r\\nContent-Length: %d\\r\\nConnection: close\\r\\n\\r\\n" % len(answer) + answer)
    client.close()
'`
}

/** A sandbox whose getHost gives names that lead to it: E2B_DOMAIN's, or else localhost's. */
export async function named(sandbox) {
  return process.env.E2B_DOMAIN ? sandbox : Sandbox.connect(sandbox.sandboxId, { domain: 'localhost' })
}

/** Where the agent of a sandbox is. */
export function agentUrl(sandbox) {
  return process.env.E2B_SANDBOX_URL ?? `https://${sandbox.getHost(49983)}`
}

/** A request whose Host header names a port of a sandbox, as a browser would send it. */
export async function getByHost(host, path = '/', headers = {}) {
  if (process.env.E2B_DOMAIN) {
    const response = await fetch(`https://${host}${path}`, { headers })
    return { status: response.status, body: await response.text() }
  }
  const { hostname, port } = new URL(process.env.E2B_API_URL)
  return new Promise((resolve, reject) => {
    const request = http.get({ hostname, port, path, headers: { ...headers, host } }, (response) => {
      let body = ''
      response.on('data', (chunk) => (body += chunk))
      response.on('end', () => resolve({ status: response.statusCode, body }))
    })
    request.on('error', reject)
  })
}
