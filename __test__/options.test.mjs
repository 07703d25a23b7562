import assert from 'node:assert/strict'
import { resolve } from 'node:path'
import { test } from 'node:test'
import { called, crabbox, fake } from './fake.mjs'

const refused = (options, pattern) =>
  assert.rejects(crabbox.acquire(options), (error) => {
    assert.equal(error.code, 'invalid_argument')
    assert.match(error.message, pattern)
    assert.doesNotMatch(error.message, /secret-key/)
    return true
  })

test('an unknown option names the nearest known one', async () => {
  await refused({ gpuname: 'RTX 4090' }, /no option `gpuname`; did you mean `gpuName`\?/)
  await refused({ maxDph: 1 }, /`maxDph`/)
  await refused({ diskGb: 20 }, /did you mean `diskGB`\?/)
  await refused({ somethingElseEntirely: 1 }, /no option `somethingElseEntirely`$/)
  await refused({ all: true }, /acquire has no option `all`/)
})

test('numbers that would wrap or be cut are refused', async () => {
  for (const gpuCount of [-1, 1.5, Number.NaN, Infinity, 2 ** 53, '1', null]) await refused({ gpuCount }, /`gpuCount` must be a whole number/)
  for (const maxDphTotal of [-0.1, Number.NaN, Infinity, '0.5']) await refused({ maxDphTotal }, /`maxDphTotal` must be a number/)
  for (const minReliability of [-0.1, 1.1, Number.NaN]) await refused({ minReliability }, /from 0 to 1/)
  for (const ttl of [-1, 0.5, Number.NaN, {}]) await refused({ ttl }, /whole number of seconds or a duration/)
})

test('other values of the wrong kind are refused, and no key is repeated', async () => {
  await refused({ apiKey: { value: 'secret-key' } }, /`apiKey` must be a non-empty string/)
  await refused({ apiKey: ['secret-key'] }, /`apiKey`/)
  await refused({ releaseAction: 7 }, /`releaseAction` must be a string, not 7/)
  await refused({ expose: [8080.5] }, /`expose\[0\]` must be a whole number/)
  await refused({ expose: [['80']] }, /`expose\[0\]` must be a string/)
  await refused({ image: null }, /`image` must be a string, not null/)
  await refused({ keep: 'yes' }, /`keep` must be true or false/)
  await refused({ signal: {} }, /`signal` must be an AbortSignal/)
  await refused({ onEvent: 'print' }, /`onEvent` must be a function/)
  await refused({ env: { A: 1 } }, /`env.A` must be a string/)
  await refused([], /options must be an object/)
  await assert.rejects(crabbox.release(1234), { code: 'invalid_argument' })
  await assert.rejects(crabbox.release('x', { action: ' ' }), { code: 'invalid_argument' })
  await assert.rejects(crabbox.doctor({ id: '' }), { code: 'invalid_argument' })
  await assert.rejects(crabbox.status(' '), { code: 'invalid_argument' })
})

test('settings travel as text, with a copy of the environment and an absolute folder', async () => {
  const env = { A: '1', B: undefined }
  const running = crabbox.list({ gpuName: 'RTX_4090', gpuCount: 2, maxDphTotal: 0.6, ttl: 5400, idleTimeout: '30m', apiKey: 'secret-key', env, cwd: 'here', image: undefined, all: true }) // prettier-ignore
  env.A = 'changed'
  await running
  assert.deepEqual(called('list').request, {
    context: {
      env: { A: '1' },
      cwd: resolve('here'),
      settings: { gpuName: 'RTX_4090', gpuCount: '2', maxDphTotal: '0.6', ttl: '5400s', idleTimeout: '30m' },
      apiKey: 'secret-key',
    },
    all: true,
  })
})

test('words go to the engine as they are, and ports as text', async () => {
  for (const expose of [8080, '8080', [8080], ['8080']]) {
    await crabbox.list({ instanceType: 'on-demand', releaseAction: 'delete', expose })
    const { settings } = called('list').request.context
    assert.deepEqual(settings, { instanceType: 'on-demand', releaseAction: 'delete', expose: '8080' })
  }
  await crabbox.list({ expose: [8080, '9090'] })
  assert.equal(called('list').request.context.settings.expose, '8080,9090')
})

test('without options the process gives environment and folder', async () => {
  await crabbox.doctor()
  const { context } = called('doctor').request
  assert.equal(context.cwd, process.cwd())
  assert.equal(context.env.PATH, process.env.PATH)
  assert.deepEqual(context.settings, {})
})

test('each call sends what is its own', async () => {
  await crabbox.release('tidal-barnacle', { action: 'stop' })
  assert.deepEqual([called('release').request.id, called('release').request.action], ['tidal-barnacle', 'stop'])
  await crabbox.status('cbx_0123456789ab', { wait: true, waitTimeout: 60 })
  assert.deepEqual([called('status').request.wait, called('status').request.waitTimeoutSeconds], [true, 60])
  await crabbox.touch('27491836')
  assert.equal(called('touch').request.id, '27491836')
  await crabbox.release('tidal-barnacle', { action: 'delete' })
  assert.equal(called('release').request.action, 'delete')
  await crabbox.doctor({ id: 'tidal-barnacle' })
  assert.equal(called('doctor').request.id, 'tidal-barnacle')
  await crabbox.searchOffers({ limit: 3 })
  assert.equal(called('searchOffers').request.limit, 3)
})

/** What is refused before the addon hears of it. */
const before = async (calling, pattern) => {
  const asked = fake.calls.length
  await assert.rejects(async () => calling(), (error) => error.code === 'invalid_argument' && pattern.test(error.message))
  assert.equal(fake.calls.length, asked)
}

test('every call that names a lease needs one, and knows its own options alone', async () => {
  for (const name of ['open', 'start', 'forget', 'adopt', 'sshCommand', 'tunnel']) {
    const more = name === 'tunnel' ? [80] : []
    for (const id of [undefined, '', ' ', 27491836]) await before(() => crabbox[name](id, ...more), /needs a lease id, slug or instance id/)
    await before(() => crabbox[name]('x', ...more, { nothing: 1 }), /has no option `nothing`/)
  }
  for (const name of ['cleanup', 'listClaims', 'liveSmoke', 'showConfig']) await before(() => crabbox[name]({ nothing: 1 }), /`nothing`/)
  await before(() => crabbox.cleanup({ dryRun: 1 }), /`dryRun` must be true or false/)
  await before(() => crabbox.forget('x', { yes: 'yes' }), /`yes` must be true or false/)
  await before(() => crabbox.open('x', { reclaim: 1 }), /`reclaim` must be true or false/)
  await before(() => crabbox.copy('', 'x:y'), /`from` must be a path/)
  await before(() => crabbox.copy('x', 3), /`to` must be a path/)
  for (const forwards of [[], ['']]) await before(() => crabbox.tunnel('x', forwards), /port to forward|something in it/)
  for (const forward of [-1, 1.5, null]) await before(() => crabbox.tunnel('x', forward), /must be a string/)
})

test('each of the later calls sends what is its own', async () => {
  await crabbox.open('trainer', { reclaim: true })
  assert.deepEqual([called('open').request.id, called('open').request.reclaim], ['trainer', true])
  await crabbox.start('trainer', { apiKey: 'secret-key' })
  assert.deepEqual([called('start').request.id, called('start').request.context.apiKey], ['trainer', 'secret-key'])
  await crabbox.cleanup({ dryRun: true })
  assert.equal(called('cleanup').request.dryRun, true)
  await crabbox.cleanup()
  assert.equal(called('cleanup').request.dryRun, false)
  await crabbox.forget('trainer')
  assert.equal(called('forget').request.yes, false)
  await crabbox.adopt('27491836', { keep: true })
  assert.equal(called('adopt').request.keep, true)
  await crabbox.copy('a', 'trainer:b')
  assert.deepEqual([called('copy').request.from, called('copy').request.to, called('copy').request.reclaim], ['a', 'trainer:b', false])
  await crabbox.showConfig({ origin: true, gpuCount: 2 })
  assert.deepEqual([called('showConfig').request.origin, called('showConfig').request.context.settings], [true, { gpuCount: '2' }])
  await (await crabbox.tunnel('trainer', [8080, '0:80'])).close()
  assert.deepEqual(called('tunnel').request.forwards, ['8080', '0:80'])
  await crabbox.acquire({ maxCost: 5, leaseId: 'cbx_0123456789ab', instanceType: 'interruptible', bid: 0.25 })
  const { leaseId, context } = called('acquire').request
  assert.deepEqual([leaseId, context.settings], ['cbx_0123456789ab', { maxCost: '5', instanceType: 'interruptible', bid: '0.25' }])
})

test('the options of a run', async () => {
  await before(() => crabbox.run({ command: 'ls' }), /array of words/)
  await before(() => crabbox.run({ script: 'no such file' }), /the script no such file cannot be read/)
  await before(() => crabbox.run({ command: ['ls'], stopAfter: 'later' }), /one of "never", "always", "success", "failure"/)
  await before(() => crabbox.run({ command: ['ls'], sync: { fast: true } }), /`fast`/)
  await before(() => crabbox.run({ command: ['ls'], sync: { full: 1 } }), /`sync.full` must be true or false/)
  await before(() => crabbox.run({ command: ['ls'], allowEnv: 'CI' }), /`allowEnv` must be an array/)
  await before(() => crabbox.run({ command: ['ls'], stdin: 3 }), /`stdin` must be/)
  await crabbox.run({ command: ['printf', 'a'], sync: { checksum: true }, keepOnFailure: true, label: 'ci', commandEnv: { A: '1' }, downloads: ['x=y'] })
  assert.deepEqual(called('run').request, {
    argv: ['printf', 'a'], label: 'ci', reclaim: false, keep: false, keepOnFailure: true, syncOnly: false,
    sync: { forceLarge: false, checksum: true, full: false }, env: { A: '1' }, allowEnv: [], downloads: ['x=y'],
  }) // prettier-ignore
  await crabbox.run({ command: { shell: 'x' }, sync: false })
  assert.equal(called('run').request.sync, undefined)
})
