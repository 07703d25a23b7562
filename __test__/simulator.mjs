// A simulated Vast and a home of its own, for tests of the package with its real addon.
import assert from 'node:assert/strict'
import { spawn } from 'node:child_process'
import { existsSync, mkdirSync, mkdtempSync, readFileSync, readdirSync, rmSync, statSync } from 'node:fs'
import { createRequire } from 'node:module'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { createInterface } from 'node:readline'
import { test } from 'node:test'
import { fileURLToPath } from 'node:url'

export const root = fileURLToPath(new URL('..', import.meta.url))
export const crabbox = createRequire(import.meta.url)('crabbox-vast')

/** A test with a simulator of its own: the published pause between two creates counts for each account. */
export function simulated(name, check, options = {}) {
  test(name, options, async () => {
    const sim = await startSimulator()
    try {
      await check(sim)
    } finally {
      await sim.close()
    }
  })
}

/** Starts a simulator; `close()` ends it and removes what it wrote. */
export async function startSimulator() {
  const home = mkdtempSync(join(tmpdir(), 'crabbox vast '))
  const child = spawn(example(), [join(home, 'sim')], { stdio: ['pipe', 'pipe', 'inherit'] })
  const lines = createInterface({ input: child.stdout })
  const facts = JSON.parse((await lines[Symbol.asyncIterator]().next()).value)
  const folders = { config: join(home, 'config'), state: join(home, 'state') }
  for (const folder of Object.values(folders)) mkdirSync(folder)
  const env = {
    PATH: process.env.PATH,
    HOME: home,
    XDG_CONFIG_HOME: folders.config,
    XDG_STATE_HOME: folders.state,
    CRABBOX_VAST_API_KEY: facts.apiKey,
    CRABBOX_VAST_API_URL: facts.url,
    CRABBOX_VAST_WORK_ROOT: facts.workRoot,
  }
  const control = async (path, init) => (await fetch(`${facts.controlUrl}/${path}`, init)).json()
  return {
    ...facts,
    home,
    env,
    /** Options that reach this simulator, and nothing of the machine. */
    options: { env, cwd: home },
    ledger: () => control('ledger'),
    /** The instances that still cost something. */
    open: async () => (await control('ledger')).open,
    /** The leases on disk. */
    claims: () => claims(folders.state),
    fault: (fault) => control('faults', { method: 'POST', headers: { authorization: `Bearer ${facts.apiKey}` }, body: JSON.stringify(fault) }),
    /** The private keys on disk. */
    keys: () => files(folders.config).filter((path) => /^-----BEGIN/.test(readFileSync(path, 'utf8'))),
    async nothingLeft() {
      assert.deepEqual(await this.open(), [])
      assert.deepEqual([...this.claims(), ...this.keys()], [])
    },
    close: async () => {
      const gone = new Promise((resolve) => child.once('exit', resolve))
      child.stdin.end()
      await gone
      rmSync(home, { recursive: true, force: true, maxRetries: 3 })
    },
  }
}

/** The newest build of the simulator's example. */
function example() {
  const found = readdirSync(join(root, 'target'), { withFileTypes: true })
    .filter((entry) => entry.isDirectory())
    .map(({ name }) => join(root, 'target', name, 'debug', 'examples', 'serve'))
    .filter((path) => existsSync(path))
    .sort((a, b) => statSync(b).mtimeMs - statSync(a).mtimeMs)
  if (!found[0]) throw new Error('no simulator: run `npm run pretest:node`')
  return found[0]
}

function claims(state) {
  return files(state).filter((path) => /claims\/[^/]+\.json$/.test(path))
}

function files(folder) {
  const entries = readdirSync(folder, { recursive: true, withFileTypes: true })
  return entries.filter((entry) => entry.isFile()).map((entry) => join(entry.parentPath ?? entry.path, entry.name))
}

/** Runs a script in a process of its own; its standard error and output are collected, `act` gets its first output. */
export function runScript(script, { env, args = [], act = () => {}, execArgv = [] }) {
  const wrapped = `const crabbox = require(${JSON.stringify(root)}); (async () => { ${script} })()`
  const child = spawn(process.execPath, [...execArgv, '-e', wrapped, ...args], { cwd: env.HOME, env, timeout: 60_000 })
  let stdout = ''
  let stderr = ''
  child.stderr.on('data', (data) => (stderr += data))
  child.stdout.on('data', (data) => {
    if (stdout === '') act(child)
    stdout += data
  })
  return new Promise((resolve) => child.on('close', (code, signal) => resolve({ code, signal, stdout, stderr })))
}
