// The test of the tests: each deliberate bug in crates/proof/bugs is applied to a scratch copy of the last commit, and the
// proof has to say there that a promise was broken. Run by hand and weekly: every bug costs a build.
//
//   node scripts/check-bugs.mjs [part of a bug's name …]
//   node scripts/check-bugs.mjs --apply-only     only whether every patch still applies; takes milliseconds
//
// Above its changes a patch says `counts:`, those of the checker's counts of which it must raise one, and `test:`, the test
// that finds it and is run first. Only a broken promise finds a bug: a test that fails for another reason, a panic, a time-out
// or a copy that does not build does not.
//
// CRABBOX_VAST_BUGS_TARGET names a target directory that is kept between runs.
import { execFileSync, spawn, spawnSync } from 'node:child_process'
import { mkdtempSync, readFileSync, readdirSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { complain, root } from './shared.mjs'

const PATIENCE = 15 * 60_000
const applyOnly = process.argv.includes('--apply-only')
const wanted = process.argv.slice(2).filter((argument) => argument !== '--apply-only')
const folder = join(root, 'crates/proof/bugs')
const bugs = readdirSync(folder)
  .filter((file) => file.endsWith('.patch'))
  .map((file) => read(file.slice(0, -'.patch'.length)))
  .filter(({ name }) => wanted.length === 0 || wanted.some((part) => name.includes(part)))
  .sort((one, other) => one.name.localeCompare(other.name))
if (bugs.length === 0) throw new Error(`no bug in ${folder} is called so`)

function read(name) {
  const file = join(folder, `${name}.patch`)
  const head = readFileSync(file, 'utf8').split(/^diff --git /m)[0]
  const line = (key) => new RegExp(`^${key}: (.+)$`, 'm').exec(head)?.[1].trim()
  return { name, file, counts: line('counts')?.split(/\s+/) ?? [], test: line('test') }
}

const applies = (where, file, ...how) => spawnSync('git', ['-C', where, 'apply', '-C1', ...how, file], { encoding: 'utf8' })
/** Why a patch is of no use as it stands, if it is. */
function useless(bug, where) {
  const { status, stderr } = applies(where, bug.file, '--check')
  if (status !== 0) return `does not apply (${stderr.split('\n')[0]})`
  if (bug.counts.length === 0) return 'has no line `counts:` above its changes'
  return bug.test ? undefined : 'has no line `test:` above its changes'
}

if (applyOnly) {
  const tests = readdirSync(join(root, 'crates/proof/tests/proof')).map((file) => readFileSync(join(root, 'crates/proof/tests/proof', file), 'utf8'))
  const complaints = bugs.flatMap((bug) => {
    const unknown = bug.test && !tests.some((text) => text.includes(`fn ${bug.test}(`)) ? `names a test that there is not: ${bug.test}` : undefined
    const why = useless(bug, root) ?? unknown
    return why ? [`crates/proof/bugs/${bug.name}.patch ${why}`] : []
  })
  complain(complaints, `${bugs.length} bugs apply`)
} else {
  process.exit((await findAll()) ? 0 : 1)
}

async function findAll() {
  const scratch = mkdtempSync(join(tmpdir(), 'crabbox-vast-bugs-'))
  const copy = join(scratch, 'copy')
  const target = process.env.CRABBOX_VAST_BUGS_TARGET ?? join(scratch, 'target')
  // Only the changed crate and the test are built again for each bug, in parts, and without optimisation; a bug that is found
  // at all is found among the first pairs.
  const env = { CRABBOX_VAST_PAIRS: '1000', ...process.env, CARGO_TARGET_DIR: target, CARGO_INCREMENTAL: '1', RUST_BACKTRACE: '0' }
  const cargo = ['test', '--package', 'crabbox-vast-proof', '--test', 'proof', '--target', 'host-tuple', '--profile', 'mutants', '--locked']
  let missed = 0
  const report = (good, word, name, why) => {
    missed += good ? 0 : 1
    console.log(`${good ? word : 'MISSED'} ${name}${why ? `: ${why}` : ''}`)
  }

  /** Why the copy does not build, if it does not. */
  const build = () => {
    const built = spawnSync('cargo', [...cargo, '--quiet', '--no-run'], { cwd: copy, env, encoding: 'utf8', maxBuffer: 2 ** 26 })
    if (built.status === 0) return undefined
    const line = built.stderr.split('\n').find((line) => line.startsWith('error'))
    return `does not build (${line ?? built.error?.message ?? built.signal ?? 'no reason given'})`
  }

  /** Runs these tests; ends early where a promise is seen to be broken in one of `counts`. */
  const test = (names, counts) =>
    new Promise((resolve) => {
      // a group of its own: cargo and the tests below it
      const ran = spawn('cargo', [...cargo, '--', '--nocapture', ...names], { cwd: copy, env, detached: true, stdio: ['ignore', 'pipe', 'pipe'] })
      const kill = () => process.kill(-ran.pid, 'SIGKILL')
      const timer = setTimeout(() => end({ timedOut: true }), PATIENCE)
      let text = ''
      let over = false
      const end = (result) => {
        if (over) return
        over = true
        clearTimeout(timer)
        if (ran.exitCode === null) kill()
        resolve({ failed: [...text.matchAll(/^test (\S+) \.\.\. FAILED/gm)].map(([, name]) => name), ...result })
      }
      const hear = (piece) => {
        text += piece
        const broken = brokenPromise(text, counts)
        if (broken) end({ broken })
      }
      ran.stdout.on('data', hear)
      ran.stderr.on('data', hear)
      ran.on('close', (status) => end({ status }))
    })

  try {
    execFileSync('git', ['clone', '--quiet', '--shared', root, copy])
    const first = wanted.length === 0 ? [] : [...new Set(bugs.map((bug) => bug.test))]
    const broken = build()
    const clean = broken ? {} : await test(first, [])
    report(clean.status === 0, 'clean ', 'the engine as it is', broken ?? (clean.status === 0 ? '' : `fails (${clean.failed ?? 'time-out'})`))
    for (const bug of bugs) {
      execFileSync('git', ['-C', copy, 'checkout', '--quiet', '--', '.'])
      const why = useless(bug, copy) ?? (applies(copy, bug.file).status === 0 ? build() : 'does not apply')
      if (why) {
        report(false, '', bug.name, why)
        continue
      }
      let found = await test([bug.test], bug.counts)
      let elsewhere = ''
      if (!found.broken) {
        found = await test([], bug.counts)
        elsewhere = ' by other tests than the one it names'
      }
      const otherwise = found.timedOut ? 'time-out' : found.failed.length > 0 ? `fails for another reason (${found.failed})` : 'passes'
      report(Boolean(found.broken), 'found ', bug.name, found.broken ? `${found.broken}${elsewhere}` : otherwise)
    }
  } finally {
    rmSync(scratch, { recursive: true, force: true })
  }
  if (missed > 0) console.error(`${missed} of ${bugs.length} bugs (and the engine as it is) came out otherwise than they must`)
  else console.log(`${bugs.length} bugs, all found`)
  return missed === 0
}

/** The first verdict in which one of these counts is not zero, in the words of the run. */
function brokenPromise(text, counts) {
  for (const [, what, verdict] of text.matchAll(/^(\S.*): (leaked \d+ .*)$/gm)) {
    const raised = [...verdict.matchAll(/(\w+) (\d+(?:\.\d+)?)/g)].filter(([, count, value]) => counts.includes(count) && Number(value) > 0)
    if (raised.length > 0) return `${raised.map(([both]) => both).join(' ')} (${what})`
  }
  return undefined
}
