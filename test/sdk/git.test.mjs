// SPDX-License-Identifier: Apache-2.0
import assert from 'node:assert/strict'
import { before } from 'node:test'
import { sdk, shared, test, unique } from './lib.mjs'

let sbx
let git
const top = `/home/user/${unique('git')}`
const repo = `${top}/repo`
const author = { authorName: 'An Author', authorEmail: 'author@example.org' }

before(async () => {
  sbx = await shared()
  git = sbx.git
  await git.init(repo, { initialBranch: 'main' })
  await git.init(`${top}/hub.git`, { bare: true, initialBranch: 'main' })
})

/** A file, added and committed. */
async function commit(name, message = `add ${name}`) {
  await sbx.files.write(`${repo}/${name}`, `${name}\n`)
  await git.add(repo, { files: [name] })
  await git.commit(repo, message, author)
}

test('init makes a repository, bare ones too', async () => {
  const { stdout } = await sbx.commands.run(
    `git -C ${repo} rev-parse --is-bare-repository; git -C ${top}/hub.git rev-parse --is-bare-repository`)
  assert.equal(stdout, 'false\ntrue\n')
})

test('status, add and commit', async () => {
  await sbx.files.write(`${repo}/first`, 'one\n')
  let status = await git.status(repo)
  assert.equal(status.currentBranch, 'main')
  assert.equal(status.hasUntracked, true)
  await git.add(repo)
  status = await git.status(repo)
  assert.deepEqual([status.hasStaged, status.hasUntracked, status.stagedCount], [true, false, 1])
  assert.equal(status.fileStatus[0].name, 'first')
  await git.commit(repo, 'the first', author)
  assert.equal((await git.status(repo)).isClean, true)
  const { stdout } = await sbx.commands.run(`git -C ${repo} log -1 --format='%s|%an|%ae'`)
  assert.equal(stdout, 'the first|An Author|author@example.org\n')
})

test('branches are made, checked out, listed and deleted', async () => {
  await commit('for-branches')
  await git.createBranch(repo, 'topic')
  assert.equal((await git.branches(repo)).currentBranch, 'topic')
  await git.checkoutBranch(repo, 'main')
  const { branches, currentBranch } = await git.branches(repo)
  assert.deepEqual([branches.sort(), currentBranch], [['main', 'topic'], 'main'])
  await git.deleteBranch(repo, 'topic')
  assert.deepEqual((await git.branches(repo)).branches, ['main'])
})

test('restore and reset undo changes', async () => {
  await commit('undo')
  await sbx.files.write(`${repo}/undo`, 'changed\n')
  await git.restore(repo, { paths: ['undo'] })
  assert.equal(await sbx.files.read(`${repo}/undo`), 'undo\n')
  await commit('undone')
  await git.reset(repo, { mode: 'hard', target: 'HEAD~1' })
  assert.equal(await sbx.files.exists(`${repo}/undone`), false)
})

test('setConfig, getConfig and configureUser', async () => {
  await git.setConfig('sdk.key', 'a value', { scope: 'local', path: repo })
  assert.equal(await git.getConfig('sdk.key', { scope: 'local', path: repo }), 'a value')
  assert.equal(await git.getConfig('sdk.none', { scope: 'local', path: repo }), undefined)
  await git.configureUser('Some One', 'one@example.org', { scope: 'local', path: repo })
  assert.equal(await git.getConfig('user.email', { scope: 'local', path: repo }), 'one@example.org')
})

test('remoteAdd, remoteGet, push, clone and pull', async () => {
  await commit('shared')
  await git.remoteAdd(repo, 'origin', `${top}/hub.git`)
  assert.equal(await git.remoteGet(repo, 'origin'), `${top}/hub.git`)
  assert.equal(await git.remoteGet(repo, 'none'), undefined)
  await git.push(repo, { remote: 'origin', branch: 'main', setUpstream: true })
  await git.clone(`${top}/hub.git`, { path: `${top}/copy` })
  assert.equal(await sbx.files.read(`${top}/copy/shared`), 'shared\n')
  await commit('later')
  await git.push(repo)
  await git.pull(`${top}/copy`)
  assert.equal(await sbx.files.read(`${top}/copy/later`), 'later\n')
})

test('dangerouslyAuthenticate stores what git will send', async () => {
  const home = `${top}/home`
  await sbx.files.makeDir(home)
  const envs = { HOME: home }
  await git.dangerouslyAuthenticate({ username: 'me', password: 'secret', host: 'git.example.org', envs })
  const { stdout } = await sbx.commands.run(
    'printf "protocol=https\\nhost=git.example.org\\n\\n" | git credential fill', { envs })
  assert.match(stdout, /password=secret/)
})

test('a failing git is an error with its output', async () => {
  await assert.rejects(git.status('/tmp'), (e) => {
    assert.ok(e instanceof sdk.CommandExitError)
    assert.match(e.stderr, /not a git repository/)
    return true
  })
})
