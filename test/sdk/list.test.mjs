// SPDX-License-Identifier: Apache-2.0
import assert from 'node:assert/strict'
import { after, before } from 'node:test'
import { Sandbox, test, unique } from './lib.mjs'

const tag = unique()
const boxes = []
let between

async function collect(opts) {
  const paginator = Sandbox.list(opts)
  const pages = []
  while (paginator.hasNext) pages.push(await paginator.nextItems())
  return pages
}

const ids = (items) => items.map((i) => i.sandboxId)
const mine = (more = {}) => ({ query: { metadata: { tag }, ...more } })

before(async () => {
  for (const nth of ['first & foremost', 'second', 'third']) {
    between = new Date()
    boxes.push(await Sandbox.create({ metadata: { tag, nth, 'odd/key': 'a=b&c%20d+é' } }))
  }
})
after(async () => {
  await Promise.all(boxes.map((box) => box.kill()))
})

test('list has what runs, the newest first', async () => {
  const [all] = await collect(mine())
  assert.deepEqual(ids(all), boxes.map((b) => b.sandboxId).reverse())
  assert.equal(all[0].state, 'running')
  assert.equal(all[0].metadata.nth, 'third')
  assert.ok(all[0].startedAt instanceof Date && all[0].endAt > all[0].startedAt)
})

test('order asc lists the oldest first', async () => {
  const [all] = await collect({ ...mine(), order: 'asc' })
  assert.deepEqual(ids(all), boxes.map((b) => b.sandboxId))
})

test('order desc lists the newest first', async () => {
  const [all] = await collect({ ...mine(), order: 'desc' })
  assert.deepEqual(ids(all), boxes.map((b) => b.sandboxId).reverse())
})

test('metadata must match in all pairs, whatever characters they have', async () => {
  const find = async (metadata) => ids((await collect({ query: { metadata } })).flat())
  assert.deepEqual(await find({ tag, nth: 'first & foremost' }), [boxes[0].sandboxId])
  assert.equal((await find({ tag, 'odd/key': 'a=b&c%20d+é' })).length, 3)
  assert.deepEqual(await find({ tag, nth: 'second', 'odd/key': 'a' }), [])
  assert.deepEqual(await find({ tag, none: '' }), [])
})

test('pages have the limit and miss nothing', async () => {
  const pages = await collect({ ...mine(), limit: 2 })
  assert.deepEqual(pages.map((p) => p.length), [2, 1])
  assert.deepEqual(ids(pages.flat()), boxes.map((b) => b.sandboxId).reverse())
})

test('pages that come out even end there', async () => {
  const pages = await collect({ ...mine(), limit: 3 })
  assert.deepEqual(pages.map((p) => p.length), [3])
})

test('nextToken continues in another paginator', async () => {
  const one = Sandbox.list({ ...mine(), limit: 1 })
  await one.nextItems()
  const two = Sandbox.list({ ...mine(), limit: 1, nextToken: one.nextToken })
  assert.deepEqual(ids(await two.nextItems()), [boxes[1].sandboxId])
})

test('state filters', async () => {
  assert.equal((await collect(mine({ state: ['running'] }))).flat().length, 3)
  assert.equal((await collect(mine({ state: ['running', 'paused'] }))).flat().length, 3)
  assert.equal((await collect(mine({ state: ['paused'] }))).flat().length, 0)
})

test('template filters, and an unknown one gives nothing', async () => {
  assert.equal((await collect(mine({ template: 'base' }))).flat().length, 3)
  assert.equal((await collect(mine({ template: 'no-such-template' }))).flat().length, 0)
})

test('startedAfter filters', async () => {
  assert.deepEqual(ids((await collect(mine({ startedAfter: between }))).flat()), [boxes[2].sandboxId])
  assert.deepEqual((await collect(mine({ startedAfter: new Date(Date.now() + 60_000) }))).flat(), [])
  assert.equal((await collect(mine({ startedAfter: new Date(0) }))).flat().length, 3)
})

test('a bad limit is refused', async () => {
  await assert.rejects(Sandbox.list({ limit: 101 }).nextItems(), /limit/)
})

test('a token that was never given out is refused', async () => {
  await assert.rejects(Sandbox.list({ nextToken: 'not a token' }).nextItems(), /nextToken/)
})

test('pages stay whole while sandboxes go', async () => {
  const paginator = Sandbox.list({ ...mine(), limit: 1 })
  const seen = ids(await paginator.nextItems())
  assert.deepEqual(seen, [boxes[2].sandboxId])
  assert.equal(await boxes[2].kill(), true) // the one that the token was made of
  while (paginator.hasNext) seen.push(...ids(await paginator.nextItems()))
  assert.deepEqual(seen, boxes.map((b) => b.sandboxId).reverse())
})
