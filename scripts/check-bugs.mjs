// The test of the tests: each deliberate bug in crates/proof/bugs is applied to a scratch copy of the last commit, and the
// proof's normal run there has to fail. Run by hand and weekly: every bug costs a build.
//
//   node scripts/check-bugs.mjs [part of a bug's name …]
//
// CRABBOX_VAST_BUGS_TARGET names a target directory that is kept between runs.
import { execFileSync, spawn, spawnSync } from 'node:child_process'
import { once } from 'node:events'
import { mkdtempSync, readdirSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { createInterface } from 'node:readline'
import { root } from './shared.mjs'

const wanted = process.argv.slice(2)
const folder = join(root, 'crates/proof/bugs')
const bugs = readdirSync(folder)
  .filter((file) => file.endsWith('.patch'))
  .map((file) => file.slice(0, -'.patch'.length))
  .filter((bug) => wanted.length === 0 || wanted.some((part) => bug.includes(part)))
  .sort()
if (bugs.length === 0) throw new Error(`no bug in ${folder} is called so`)

const scratch = mkdtempSync(join(tmpdir(), 'crabbox-vast-bugs-'))
const copy = join(scratch, 'copy')
const target = process.env.CRABBOX_VAST_BUGS_TARGET ?? join(scratch, 'target')
const env = { ...process.env, CARGO_TARGET_DIR: target, CARGO_INCREMENTAL: '0', RUST_BACKTRACE: '0' }
const git = (...args) => execFileSync('git', ['-C', copy, ...args], { encoding: 'utf8', stdio: ['ignore', 'pipe', 'pipe'] })
const test = ['test', '--package', 'crabbox-vast-proof', '--test', 'proof', '--target', 'host-tuple', '--locked']

/** What the run says about the copy as it is: `passes`, `fails` or `does not build`. The first failure ends it. */
async function run() {
  const built = spawnSync('cargo', [...test, '--quiet', '--no-run'], { cwd: copy, env, encoding: 'utf8' })
  if (built.status !== 0) return { verdict: 'does not build', why: built.stderr.split('\n').find((line) => line.startsWith('error')) }
  const ran = spawn('cargo', test, { cwd: copy, env, detached: true, stdio: ['ignore', 'pipe', 'ignore'] })
  let failed
  for await (const line of createInterface({ input: ran.stdout })) {
    failed = /^test (\S+) \.\.\. FAILED/.exec(line)?.[1]
    if (failed) break
  }
  if (failed) {
    // its own group: cargo and the tests below it
    process.kill(-ran.pid, 'SIGKILL')
    return { verdict: 'fails', why: failed }
  }
  if (ran.exitCode === null) await once(ran, 'exit')
  return { verdict: ran.exitCode === 0 ? 'passes' : 'fails' }
}

let missed = 0
try {
  execFileSync('git', ['clone', '--quiet', '--shared', root, copy])
  const report = async (name, expected) => {
    const { verdict, why } = await run()
    const good = verdict === expected
    missed += good ? 0 : 1
    const word = good ? (expected === 'fails' ? 'found ' : 'clean ') : 'MISSED'
    console.log(`${word} ${name}${good && !why ? '' : `: ${verdict}${why ? ` (${why})` : ''}`}`)
  }
  if (wanted.length === 0) await report('the engine as it is', 'passes')
  for (const bug of bugs) {
    git('checkout', '--quiet', '--', '.')
    git('apply', '-C1', join(folder, `${bug}.patch`))
    await report(bug, 'fails')
  }
} finally {
  rmSync(scratch, { recursive: true, force: true })
}
if (missed > 0) {
  console.error(`${missed} of ${bugs.length} bugs (and the engine as it is) came out otherwise than they must`)
  process.exit(1)
}
console.log(`${bugs.length} bugs, all found`)
