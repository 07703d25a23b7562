// What the addon offers today must fit what lib/ expects of it.
import binding = require('../../binding.js')
import type { Context, Native } from '../../lib/native.js'

declare const cancel: binding.Cancel
const expected: InstanceType<Native['Cancel']> = cancel
const codes: ReturnType<Native['errorCodes']> = binding.errorCodes()
const version: Native['version'] = binding.version
const settings: ReturnType<Native['settings']> = binding.settings()

// each operation takes what lib/ sends; its JSON is typed on this side alone
declare const context: Context
const acquire: Native['acquire'] = binding.acquire
const release: Native['release'] = binding.release
const list: Native['list'] = binding.list
const status: Native['status'] = binding.status
const touch: Native['touch'] = binding.touch
const doctor: Native['doctor'] = binding.doctor
const searchOffers: Native['searchOffers'] = binding.searchOffers
const open: Native['open'] = binding.open
const start: Native['start'] = binding.start
const run: Native['run'] = binding.run
const tunnel: Native['tunnel'] = binding.tunnel
const copy: Native['copy'] = binding.copy
const sshCommand: Native['sshCommand'] = binding.sshCommand
const cleanup: Native['cleanup'] = binding.cleanup
const listClaims: Native['listClaims'] = binding.listClaims
const forget: Native['forget'] = binding.forget
const adopt: Native['adopt'] = binding.adopt
const liveSmoke: Native['liveSmoke'] = binding.liveSmoke
const showConfig: Native['showConfig'] = binding.showConfig
const providers: Native['providers'] = binding.providers
const sent: binding.CallContext = context
void [expected, codes, version, settings, acquire, release, list, status, touch, doctor, searchOffers, sent]
void [open, start, run, tunnel, copy, sshCommand, cleanup, listClaims, forget, adopt, liveSmoke, showConfig, providers]
