// SPDX-License-Identifier: Apache-2.0
// What vivd has not: an error that names it, never silence.
import assert from 'node:assert/strict'
import { before } from 'node:test'
import { Sandbox, sdk, shared, test } from './lib.mjs'

let sbx
let id

before(async () => {
  sbx = await shared()
  id = sbx.sandboxId
})

/** Whether an error is one of the package with the status and what is missing in its text. */
function refuses(status, ...names) {
  return (error) => {
    assert.ok(error.message.startsWith(`${status}: `), error.message)
    for (const name of names) assert.ok(error.message.includes(name), `'${name}' in '${error.message}'`)
    return true
  }
}

const refusedCalls = {
  'Template.build': [() => sdk.Template.build(sdk.Template().fromBaseImage(), 'mine'), '/v3/templates'],
  'Template.exists': [() => sdk.Template.exists('mine'), '/templates/aliases/mine'],
  'Template.assignTags': [() => sdk.Template.assignTags('mine:v1', ['v2']), '/templates/tags'],
  'Template.removeTags': [() => sdk.Template.removeTags('mine', ['v2']), '/templates/tags'],
  'Template.getTags': [() => sdk.Template.getTags('mine'), '/templates/mine/tags'],
  'Template.getBuildStatus': [
    () => sdk.Template.getBuildStatus({ templateId: 'mine', buildId: '0' }), '/templates/mine/builds/0/status'],
  'Volume.create': [() => sdk.Volume.create('disk'), '/volumes'],
  'Volume.connect': [() => sdk.Volume.connect('disk'), '/volumes/disk'],
  'Volume.list': [() => sdk.Volume.list(), '/volumes'],
  'Volume.destroy': [() => sdk.Volume.destroy('disk'), '/volumes/disk'],
  'Secret.create': [() => sdk.Secret.create('token', 'value'), '/secrets'],
  'Secret.update': [() => sdk.Secret.update('token', 'value'), '/secrets/token'],
  'Secret.getInfo': [() => sdk.Secret.getInfo('token'), '/secrets/token'],
  'Secret.list': [() => sdk.Secret.list().nextItems(), '/secrets'],
  'Secret.destroy': [() => sdk.Secret.destroy('token'), '/secrets/token'],
}

for (const [name, [call, path]] of Object.entries(refusedCalls)) {
  test(`${name} is refused by name`, async () => {
    await assert.rejects(call(), refuses(501, path))
  })
}

const refusedFields = {
  volumeMounts: [{ volumeMounts: { '/data': 'disk' } }, 'volumeMounts'],
  mcp: [{ mcp: { duckduckgo: {} }, template: 'base' }, 'mcp'],
  iam: [{ iam: { tokens: { t: { audience: 'a', tokenType: 'JWT-SVID' } } } }, 'iam'],
  'network.egressProxy': [{ network: { egressProxy: { address: '192.0.2.9:1080' } } }, 'egressProxy'],
  'network.rules': [
    { network: { rules: { 'example.org': [{ transform: { headers: { A: 'b' } } }] } } }, 'rules'],
}

for (const [name, [opts, field]] of Object.entries(refusedFields)) {
  test(`create refuses ${name}`, async () => {
    await assert.rejects(Sandbox.create(opts), refuses(400, field))
  })
}

test('create refuses a timeout of nothing', async () => {
  await assert.rejects(Sandbox.create({ timeoutMs: 0 }), refuses(400, 'timeout'))
})
