import assert from 'node:assert/strict'
import { execFileSync } from 'node:child_process'
import { mkdirSync, readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { after, before, test } from 'node:test'
import { crabbox, startSimulator } from './simulator.mjs'

let sim, options, repository
before(async () => {
  sim = await startSimulator()
  repository = join(sim.home, 'project')
  mkdirSync(repository)
  writeFileSync(join(repository, 'data.txt'), 'from here\n')
  execFileSync('git', ['init', '-q'], { cwd: repository, env: sim.env })
  execFileSync('git', ['add', '.'], { cwd: repository, env: sim.env })
  options = { env: { ...sim.env, LOCAL_WORD: 'local' }, cwd: repository }
})
after(() => sim.close())

test('a run brings the tree over, runs, fetches, and gives the machine back', async () => {
  const types = new Set()
  let streamed = ''
  const result = await crabbox.run({
    ...options,
    command: { shell: 'cat data.txt; cat; echo "$LOCAL_WORD|$GIVEN" > out.txt; echo err >&2' },
    stdin: 'from stdin\n',
    commandEnv: { GIVEN: 'given' },
    allowEnv: ['LOCAL_*'],
    downloads: ['out.txt=got.txt'],
    label: 'test',
    onStdout: (data) => (streamed += data),
    onEvent: (event) => {
      types.add(event.type)
      if (event.type === 'running') assert.match(event.lease.instance, /^\d+$/)
    },
  })
  assert.deepEqual([result.exitCode, result.stdout, result.stderr], [0, 'from here\nfrom stdin\n', 'err\n'])
  assert.equal(streamed, result.stdout)
  assert.equal(readFileSync(join(repository, 'got.txt'), 'utf8'), 'local|given\n')
  assert.deepEqual([result.released, result.policy, result.timing.label], [true, 'auto', 'test'])
  assert.ok(result.sync.sentFiles >= 1 && result.costDollars > 0 && result.lease.price > 0)
  for (const type of ['syncing', 'syncComplete', 'running', 'runContext', 'downloaded', 'commandEnded']) assert.ok(types.has(type), type)
  await sim.nothingLeft()
})

test('a failure is a result; the lease may stay for it, and later runs use it', async () => {
  const failed = await crabbox.run({ ...options, command: ['sh', '-c', 'exit 9'], sync: false, keepOnFailure: true, slug: 'left' })
  assert.deepEqual([failed.exitCode, failed.released, failed.sync], [9, null, null])
  writeFileSync(join(sim.home, 'bench.sh'), 'echo "args: $*"\n')
  const script = crabbox.run({ ...options, id: 'left', script: '../bench.sh', command: ['a b', 'c'], sync: false })
  let seen = ''
  for await (const { stream, data } of script) if (stream === 'stdout') seen += data
  assert.equal(seen, 'args: a b c\n')
  assert.equal((await script).released, null)
  const synced = await crabbox.run({ ...options, id: 'left', syncOnly: true })
  assert.ok(synced.sync.files >= 1)
  const last = await crabbox.run({ ...options, id: 'left', command: ['cat', 'data.txt'], stopAfter: 'always', encoding: 'buffer' })
  assert.deepEqual([last.released, String(last.stdout), last.stdout instanceof Uint8Array], [true, 'from here\n', true])
  await sim.nothingLeft()
})

test('an abort ends the run and gives the machine back', async () => {
  const controller = new AbortController()
  const reason = new Error('enough')
  const running = crabbox.run({
    ...options,
    command: { shell: 'echo up; exec sleep 60' },
    sync: false,
    signal: controller.signal,
    onStdout: () => controller.abort(reason),
  })
  await assert.rejects(running, reason)
  await sim.nothingLeft()
  const { created } = await sim.ledger()
  await assert.rejects(crabbox.run({ ...options, command: ['true'], signal: AbortSignal.abort(reason) }), reason)
  const nowhere = { ...options, cwd: sim.home, command: ['true'] }
  await assert.rejects(crabbox.run(nowhere), { code: 'not_a_repository' })
  assert.equal((await sim.ledger()).created, created)
})

test('profiles are handed over, artifacts and a bundle come back, and a pond is kept to', async () => {
  writeFileSync(join(repository, 'ci.env'), "export MY_WORD='from the profile'\nOTHER=stays\n")
  const fine = await crabbox.run({
    ...options,
    command: { shell: 'echo "$MY_WORD|$OTHER" && mkdir -p out && echo a >out/a.json' },
    keep: true,
    slug: 'left',
    pond: 'My Lab',
    expose: ['9090', '80'],
    allowEnv: ['MY_*'],
    envProfiles: ['ci.env'],
    artifacts: ['out/*.json'],
    requiredArtifacts: ['**/a.json'],
  })
  assert.equal(fine.stdout, 'from the profile|\n')
  assert.deepEqual([fine.artifacts.files, fine.failureBundle], [['out/a.json'], null])
  assert.ok(readFileSync(join(repository, fine.artifacts.path)).length === fine.artifacts.bytes)
  const status = await crabbox.status('left', options)
  assert.deepEqual([status.pond, status.labels.crabbox_exposed_ports], ['my-lab', '80-9090'])
  assert.deepEqual((await crabbox.list({ ...options, pond: 'my lab' })).map(({ slug }) => slug), ['left'])
  assert.deepEqual(await crabbox.list({ ...options, pond: 'other' }), [])

  const reuse = { ...options, id: 'left', sync: false }
  await assert.rejects(crabbox.run({ ...reuse, command: ['true'], requiredArtifacts: ['none'] }), { code: 'remote_control' })
  const failed = await crabbox.run({ ...reuse, command: ['false'], captureOnFail: true, stopAfter: 'always' })
  assert.equal(failed.artifacts, null)
  assert.match(failed.failureBundle, /^\.crabbox\/captures\/run_.*\.tar\.gz$/)
  assert.ok(readFileSync(join(repository, failed.failureBundle)).length > 0)
  await sim.nothingLeft()
})
