'use strict'

const { readFile } = require('node:fs/promises')
const { basename, resolve } = require('node:path')
const { VastLeaseError } = require('./error.js')
const { readCommand, readStreams, streamOptions } = require('./exec-request.js')
const { native } = require('./native.js')
const { boolean, checkNames, readEnv, readOptions } = require('./options.js')
const { RemoteCommand } = require('./remote-command.js')
const { oneOf, text, words, wrong } = require('./settings.js')
const { stream } = require('./stream.js')

const own = {
  ...streamOptions,
  command: (_name, value) => readArguments(value),
  script: text,
  id: text,
  reclaim: boolean,
  keep: boolean,
  slug: text,
  leaseId: text,
  keepOnFailure: boolean,
  stopAfter: oneOf('never', 'always', 'success', 'failure'),
  sync: readSync,
  syncOnly: boolean,
  commandEnv: readEnv,
  allowEnv: words,
  envProfiles: words,
  downloads: words,
  artifacts: words,
  requiredArtifacts: words,
  captureOnFail: boolean,
  label: text,
}

/** Runs a command on a lease, its own or a present one. */
function run(options) {
  return new RemoteCommand((deliver) => start(options, deliver))
}

async function start(options, deliver) {
  const { context, own: given, signal, onEvent } = readOptions('run', options, own)
  const request = readRequest(given)
  if (given.script !== undefined) request.script = await readScript(context.cwd, given.script)
  const streams = readStreams(given)
  const sent = { context, request, stdin: streams.stdin !== undefined }
  const plumbing = { signal, onEvent, atExit: 'undo' }
  return stream({ ...streams, plumbing, deliver }, (cancel, events) => native().run(sent, cancel, events))
}

function readRequest(given) {
  const { command, id, syncOnly = false, sync = {} } = given
  const { reclaim = false, keep = false, slug, leaseId, keepOnFailure = false, stopAfter, label } = given
  const { envProfiles, artifacts, requiredArtifacts, captureOnFail } = given
  const files = { envProfiles, artifacts, requiredArtifacts, captureOnFail }
  const named = Object.entries({ id, slug, leaseId, stopAfter, ...files, label }).filter(([, value]) => value !== undefined)
  return {
    ...Object.fromEntries(named),
    ...command,
    reclaim,
    keep,
    keepOnFailure,
    syncOnly,
    ...(sync && { sync: { forceLarge: false, checksum: false, full: false, ...sync } }),
    env: given.commandEnv ?? {},
    allowEnv: given.allowEnv ?? [],
    downloads: given.downloads ?? [],
  }
}

/** The words may be none: a script needs no arguments. What fits together is the engine's to say. */
function readArguments(value) {
  return Array.isArray(value) && value.length === 0 ? { argv: [] } : readCommand('run', value)
}

/** `false`, or how to sync; `true` says what is the default. */
function readSync(name, value) {
  if (typeof value === 'boolean') return value && {}
  if (typeof value !== 'object' || value === null) throw wrong(name, 'true, false or an object', value)
  const given = Object.entries(value).filter(([, each]) => each !== undefined)
  checkNames('run: sync', given, ['forceLarge', 'checksum', 'full'])
  return Object.fromEntries(given.map(([key, each]) => [key, boolean(`${name}.${key}`, each)]))
}

async function readScript(cwd, path) {
  try {
    return { name: basename(path), content: await readFile(resolve(cwd, path)) }
  } catch (cause) {
    throw new VastLeaseError(`the script ${path} cannot be read: ${cause.message}`, {
      code: 'invalid_argument',
      hint: '`script` is the path of a local file',
      details: { option: 'script' },
      cause,
    })
  }
}

module.exports = { run }
