'use strict'

const { guarded } = require('./call.js')
const { invalidArgument } = require('./error.js')
const { checkNames, readCallback, readEnv, readSignal } = require('./options.js')
const { text, wrong } = require('./settings.js')

const defaultMaxBuffer = 16 * 1024 * 1024

/** The options that concern the streams of a command, each with its check. */
const streamOptions = {
  stdin: readStdin,
  onStdout: readCallback,
  onStderr: readCallback,
  encoding: readEncoding,
  maxBuffer: readMaxBuffer,
}
const names = [...Object.keys(streamOptions), 'env', 'cwd', 'signal']

/** Reads a command and its options. */
function readExec(command, options = {}) {
  if (typeof options !== 'object' || options === null) throw invalidArgument('exec: options must be an object')
  const given = Object.entries(options).filter(([, value]) => value !== undefined)
  checkNames('exec', given, names)
  const { env = {}, cwd, signal } = Object.fromEntries(given)
  const checked = given.filter(([name]) => Object.hasOwn(streamOptions, name)).map(([name, value]) => [name, streamOptions[name](name, value)])
  const streams = readStreams(Object.fromEntries(checked))
  const request = { ...readCommand('exec', command), env: readEnv('env', env), stdin: streams.stdin !== undefined }
  if (cwd !== undefined) request.cwd = text('cwd', cwd)
  return { request, signal: readSignal(signal), ...streams }
}

/** What a stream needs, from options that were checked. */
function readStreams({ stdin, onStdout, onStderr, encoding = 'utf8', maxBuffer = defaultMaxBuffer }) {
  const [out, err] = [guarded(onStdout), guarded(onStderr)]
  return {
    stdin,
    collect: { encoding, maxBuffer },
    onChunk: ({ stream, data }) => (stream === 'stdout' ? out : err)?.(data),
  }
}

/** Words, or a line for the remote shell. */
function readCommand(call, command) {
  if (Array.isArray(command)) {
    if (command.length === 0) throw invalidArgument(`${call} needs a command`)
    return { argv: command.map((word, index) => text(`argv[${index}]`, word)) }
  }
  if (typeof command === 'object' && command !== null) {
    checkNames(call, Object.entries(command), ['shell'])
    if (text('shell', command.shell).trim() === '') throw invalidArgument(`${call} needs a command`)
    return { shell: command.shell }
  }
  throw invalidArgument(`${call} needs an array of words, or \`{ shell: "…" }\` for the remote shell's own syntax`)
}

function readStdin(name, stdin) {
  if (typeof stdin === 'string' || stdin instanceof Uint8Array) return [stdin]
  if (stdin !== null && typeof stdin === 'object' && (stdin[Symbol.asyncIterator] || stdin[Symbol.iterator])) return stdin
  throw wrong(name, 'a string, bytes or an (async) iterable of them', stdin)
}

function readEncoding(name, encoding) {
  if (encoding !== 'buffer' && !Buffer.isEncoding(encoding)) throw wrong(name, 'an encoding or "buffer"', encoding)
  return encoding
}

function readMaxBuffer(name, maxBuffer) {
  if (maxBuffer !== Infinity && !(Number.isSafeInteger(maxBuffer) && maxBuffer >= 0)) {
    throw wrong(name, 'a whole number of bytes or Infinity', maxBuffer)
  }
  return maxBuffer
}

module.exports = { readExec, readCommand, readStreams, streamOptions }
