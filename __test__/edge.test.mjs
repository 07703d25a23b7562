import assert from 'node:assert/strict'
import { spawnSync } from 'node:child_process'
import { createRequire } from 'node:module'
import { test } from 'node:test'
import { fileURLToPath } from 'node:url'
import * as edge from 'crabbox-vast/edge'

const root = fileURLToPath(new URL('..', import.meta.url))
const main = createRequire(import.meta.url)('crabbox-vast')

test('it has the names of the main entry', () => {
  assert.deepEqual(Object.keys(edge).sort(), Object.keys(main).sort())
})

test('every call fails with a code and a hint', async () => {
  for (const name of ['acquire', 'release', 'list', 'status', 'touch', 'doctor', 'searchOffers']) {
    assert.equal(edge[name].name, name)
    await assert.rejects(edge[name](), { name: 'VastLeaseError', code: 'unsupported_runtime' })
  }
  for (const name of ['installSignalHandlers', 'binaryPath']) assert.throws(edge[name], { code: 'unsupported_runtime' })
  assert.throws(() => new edge.Lease(), { code: 'unsupported_runtime' })
})

for (const condition of ['workerd', 'browser']) {
  test(`the condition ${condition} chooses it`, () => {
    const script = "import('crabbox-vast').then((m) => m.list()).catch((e) => console.log(e.code))"
    const args = ['--conditions', condition, '--input-type=module', '-e', script]
    const { stdout } = spawnSync(process.execPath, args, { cwd: root, encoding: 'utf8' })
    assert.equal(stdout.trim(), 'unsupported_runtime')
  })
}
