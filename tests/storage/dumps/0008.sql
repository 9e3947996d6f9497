BEGIN TRANSACTION;
CREATE TABLE access_tokens (
	token_id VARCHAR(12) NOT NULL, 
	name VARCHAR(64) NOT NULL, 
	digest VARCHAR(64) NOT NULL, 
	client_ids TEXT, 
	roles TEXT NOT NULL, 
	created_ms BIGINT NOT NULL, 
	expires_ms BIGINT, 
	revoked_ms BIGINT, 
	is_local BOOLEAN NOT NULL, 
	PRIMARY KEY (token_id)
);
INSERT INTO "access_tokens" VALUES('ddb8f328177e','phone','9e9967251e7cbf46de78e200de8d9221c786d0f2ec802aecddc9dcc37702c14c','["zoe"]','["user"]',1796081356799,NULL,NULL,0);
CREATE TABLE acknowledgements (
	client_id VARCHAR(64) NOT NULL, 
	device_id VARCHAR(64) NOT NULL, 
	stream VARCHAR(256) NOT NULL, 
	epoch VARCHAR(64) NOT NULL, 
	seq BIGINT NOT NULL, 
	time_ms BIGINT NOT NULL, 
	PRIMARY KEY (client_id, device_id, stream)
);
CREATE TABLE alembic_version (
	version_num VARCHAR(32) NOT NULL, 
	CONSTRAINT alembic_version_pkc PRIMARY KEY (version_num)
);
INSERT INTO "alembic_version" VALUES('0008');
CREATE TABLE assists (
	stream VARCHAR(256) NOT NULL, 
	client_id VARCHAR(64) NOT NULL, 
	domain VARCHAR(256) NOT NULL, 
	command_id VARCHAR(64) NOT NULL, 
	conversation VARCHAR(64), 
	turn BIGINT, 
	intent VARCHAR(16), 
	restart TEXT, 
	started_ms BIGINT NOT NULL, 
	PRIMARY KEY (stream)
);
CREATE TABLE board_limits (
	client_id VARCHAR(64) NOT NULL, 
	project VARCHAR(128) NOT NULL, 
	status VARCHAR(16) NOT NULL, 
	most INTEGER NOT NULL, 
	PRIMARY KEY (client_id, project, status)
);
CREATE TABLE client_logs (
	client_id VARCHAR(64) NOT NULL, 
	epoch VARCHAR(32) NOT NULL, 
	head BIGINT NOT NULL, 
	PRIMARY KEY (client_id)
);
INSERT INTO "client_logs" VALUES('','9f00b4c7e4846abb37a73ac4be588f2e',0);
INSERT INTO "client_logs" VALUES('zoe','da6600cf610cb685',11);
CREATE TABLE conversations (
	client_id VARCHAR(64) NOT NULL, 
	name VARCHAR(64) NOT NULL, 
	created_ms BIGINT NOT NULL, 
	updated_ms BIGINT NOT NULL, 
	deleted_ms BIGINT, 
	last_turn BIGINT NOT NULL, 
	first_turn BIGINT NOT NULL, 
	window_start BIGINT NOT NULL, 
	bytes BIGINT NOT NULL, 
	running_command VARCHAR(64), 
	running_stream VARCHAR(256), 
	PRIMARY KEY (client_id, name)
);
INSERT INTO "conversations" VALUES('zoe','tour',1796081347247,1796081347412,NULL,4,1,1,34,NULL,NULL);
CREATE TABLE events (
	client_id VARCHAR(64) NOT NULL, 
	seq BIGINT NOT NULL, 
	type VARCHAR(64) NOT NULL, 
	channel VARCHAR(32) NOT NULL, 
	priority VARCHAR(16) NOT NULL, 
	time_ms BIGINT NOT NULL, 
	data TEXT NOT NULL, 
	bytes INTEGER NOT NULL, 
	PRIMARY KEY (client_id, seq)
);
INSERT INTO "events" VALUES('zoe',1,'task_created','tasks','medium',1796081346918,'{"event_id":"db8faefc-a6b4-4d3e-af2e-b0bc63dbcfa8","channel":"tasks","priority":"medium","task":{"id":"e9578c4f-22d0-4477-b0e4-29e826e24fcf","client_id":"zoe","project":"default","title":"Water the plants","description":"Line one.\nLine two.","status":"todo","priority":"medium","position":"V0000000","tags":["home","n0"],"dependencies":[],"attachments":[],"ai_analysis_status":"none","is_blocked":false,"requires_approval":false,"version":1,"created":"2026-11-30T23:29:06.903Z","updated":"2026-11-30T23:29:06.903Z"}}',517);
INSERT INTO "events" VALUES('zoe',2,'notification','notifications','low',1796081346918,'{"event_id":"f5af1980-da0c-40ca-b16e-98af9e20f0c9","channel":"notifications","priority":"low","notification":{"notification_id":"70ec1c44-0789-4ab2-9741-c7c91850d355","kind":"task_created","priority":"low","title":"New task: Water the plants","body":"Status: todo","data":{"task_id":"e9578c4f-22d0-4477-b0e4-29e826e24fcf","status":"todo"},"created_at":"2026-11-30T23:29:06.968Z","read_at":"2026-11-30T23:29:06.968Z"}}',417);
INSERT INTO "events" VALUES('zoe',3,'task_created','tasks','medium',1796081347042,'{"event_id":"4a9ce369-1190-4a77-af06-2db9ccf8bb05","channel":"tasks","priority":"medium","task":{"id":"4700efc7-d59d-4502-8ad3-035075129adf","client_id":"zoe","project":"default","title":"Grüße an Ömer 🌱","description":"Line one.\nLine two.","status":"todo","priority":"medium","position":"V0000001","tags":["home","n1"],"dependencies":[],"attachments":[],"ai_analysis_status":"none","is_blocked":false,"requires_approval":false,"version":1,"created":"2026-11-30T23:29:07.041Z","updated":"2026-11-30T23:29:07.041Z"}}',522);
INSERT INTO "events" VALUES('zoe',4,'notification','notifications','low',1796081347042,'{"event_id":"8bbff046-7c60-4b44-9fb5-4478135f5566","channel":"notifications","priority":"low","notification":{"notification_id":"6eb0e401-c8a5-4393-83b5-b312ced77f36","kind":"task_created","priority":"low","title":"New task: Grüße an Ömer 🌱","body":"Status: todo","data":{"task_id":"4700efc7-d59d-4502-8ad3-035075129adf","status":"todo"},"created_at":"2026-11-30T23:29:07.043Z","read_at":"2026-11-30T23:29:07.043Z"}}',422);
INSERT INTO "events" VALUES('zoe',5,'task_moved','tasks','medium',1796081347105,'{"event_id":"d09b09b9-08c1-441f-8cab-2e4b547be685","channel":"tasks","priority":"medium","task":{"id":"4700efc7-d59d-4502-8ad3-035075129adf","client_id":"zoe","project":"default","title":"Grüße an Ömer 🌱","description":"Line one.\nLine two.","status":"in_progress","priority":"medium","position":"V0000000","tags":["home","n1"],"dependencies":[],"attachments":[],"ai_analysis_status":"none","is_blocked":false,"requires_approval":false,"version":2,"created":"2026-11-30T23:29:07.041Z","updated":"2026-11-30T23:29:07.087Z"}}',529);
INSERT INTO "events" VALUES('zoe',6,'notification','notifications','low',1796081347105,'{"event_id":"1fa45eca-f9a5-4371-9940-da6606abdf1f","channel":"notifications","priority":"low","notification":{"notification_id":"af048a63-72c0-418e-9870-7ace0862256f","kind":"task_moved","priority":"low","title":"Task moved: Grüße an Ömer 🌱","body":"Now in in_progress","data":{"task_id":"4700efc7-d59d-4502-8ad3-035075129adf","status":"in_progress"},"created_at":"2026-11-30T23:29:07.134Z","read_at":"2026-11-30T23:29:07.134Z"}}',435);
INSERT INTO "events" VALUES('zoe',7,'task_created','tasks','medium',1796081347182,'{"event_id":"73cd6720-72ca-4c09-9f04-25f2e3693a52","channel":"tasks","priority":"medium","task":{"id":"60afa287-2e1b-4ccd-bc9e-a8d17e351f84","client_id":"zoe","project":"default","title":"Review `a<b>`","description":"Line one.\nLine two.","status":"todo","priority":"medium","position":"V0000001","tags":["home","n2"],"dependencies":[],"attachments":[],"ai_analysis_status":"none","is_blocked":false,"requires_approval":false,"version":1,"created":"2026-11-30T23:29:07.168Z","updated":"2026-11-30T23:29:07.168Z"}}',514);
INSERT INTO "events" VALUES('zoe',8,'notification','notifications','low',1796081347182,'{"event_id":"372ed156-b9ca-4d31-9693-ff69c01ef67b","channel":"notifications","priority":"low","notification":{"notification_id":"f6b8f369-2471-4eb6-806a-a125155deebd","kind":"task_created","priority":"low","title":"New task: Review `a<b>`","body":"Status: todo","data":{"task_id":"60afa287-2e1b-4ccd-bc9e-a8d17e351f84","status":"todo"},"created_at":"2026-11-30T23:29:07.183Z","read_at":"2026-11-30T23:29:07.183Z"}}',414);
INSERT INTO "events" VALUES('zoe',9,'ai_response','ai','medium',1796081347280,'{"event_id":"ff17ca40-3cbc-4ec7-bfb4-d697f0ab90b8","channel":"ai","priority":"medium","command":"generate","id":"ai-d2a6d35de73a54636410b71e","analysis":"1 2 3","conversation":"tour"}',183);
INSERT INTO "events" VALUES('zoe',10,'ai_response','ai','medium',1796081347411,'{"event_id":"95148602-52cc-4d39-8f5c-3458372fb210","channel":"ai","priority":"medium","command":"generate","id":"ai-f0ee82dc1ef111a29bff4686","analysis":"1 2 3 4 5","conversation":"tour"}',187);
INSERT INTO "events" VALUES('zoe',11,'notification','notifications','medium',1796081347448,'{"event_id":"8d511fac-7051-4869-bbfb-60a3de507095","channel":"notifications","priority":"medium","notification":{"notification_id":"eeafa76c-b47d-4d50-a811-8ab92f93811f","kind":"message","priority":"medium","title":"Tea is ready","body":"Käsekuchen, too","data":{},"created_at":"2026-11-30T23:29:07.448Z"}}',307);
CREATE TABLE generations (
	stream VARCHAR(256) NOT NULL, 
	client_id VARCHAR(64) NOT NULL, 
	device_id VARCHAR(64), 
	command_id VARCHAR(64), 
	digest VARCHAR(64), 
	domain VARCHAR(256) NOT NULL, 
	request TEXT NOT NULL, 
	prompt_tokens BIGINT NOT NULL, 
	started_ms BIGINT NOT NULL, 
	ended_ms BIGINT, 
	text TEXT, 
	last TEXT, 
	PRIMARY KEY (stream)
);
CREATE TABLE idempotency (
	client_id VARCHAR(64) NOT NULL, 
	device_id VARCHAR(64) NOT NULL, 
	command_id VARCHAR(64) NOT NULL, 
	digest VARCHAR(64) NOT NULL, 
	outcome TEXT NOT NULL, 
	head BIGINT, 
	time_ms BIGINT NOT NULL, 
	PRIMARY KEY (client_id, device_id, command_id)
);
CREATE TABLE notification_acknowledgements (
	client_id VARCHAR(64) NOT NULL, 
	device_id VARCHAR(64) NOT NULL, 
	seq BIGINT NOT NULL, 
	time_ms BIGINT NOT NULL, 
	PRIMARY KEY (client_id, device_id)
);
CREATE TABLE notification_clients (
	client_id VARCHAR(64) NOT NULL, 
	last_number BIGINT NOT NULL, 
	preferences TEXT, 
	PRIMARY KEY (client_id)
);
INSERT INTO "notification_clients" VALUES('zoe',5,NULL);
CREATE TABLE notification_deliveries (
	notification_id VARCHAR(64) NOT NULL, 
	channel VARCHAR(16) NOT NULL, 
	device_id VARCHAR(64) NOT NULL, 
	client_id VARCHAR(64) NOT NULL, 
	number BIGINT NOT NULL, 
	state VARCHAR(16) NOT NULL, 
	reason TEXT, 
	attempts INTEGER NOT NULL, 
	due_ms BIGINT, 
	released_ms BIGINT, 
	sent_ms BIGINT, 
	delivered_ms BIGINT, 
	opened_ms BIGINT, 
	digest_id VARCHAR(64), 
	PRIMARY KEY (notification_id, channel, device_id)
);
INSERT INTO "notification_deliveries" VALUES('70ec1c44-0789-4ab2-9741-c7c91850d355','in_app','','zoe',1,'sent',NULL,0,NULL,1796081346968,1796081346968,NULL,NULL,NULL);
INSERT INTO "notification_deliveries" VALUES('6eb0e401-c8a5-4393-83b5-b312ced77f36','in_app','','zoe',2,'sent',NULL,0,NULL,1796081347043,1796081347043,NULL,NULL,NULL);
INSERT INTO "notification_deliveries" VALUES('af048a63-72c0-418e-9870-7ace0862256f','in_app','','zoe',3,'sent',NULL,0,NULL,1796081347134,1796081347134,NULL,NULL,NULL);
INSERT INTO "notification_deliveries" VALUES('f6b8f369-2471-4eb6-806a-a125155deebd','in_app','','zoe',4,'sent',NULL,0,NULL,1796081347183,1796081347183,NULL,NULL,NULL);
INSERT INTO "notification_deliveries" VALUES('eeafa76c-b47d-4d50-a811-8ab92f93811f','in_app','','zoe',5,'sent',NULL,0,NULL,1796081347448,1796081347448,NULL,NULL,NULL);
CREATE TABLE notification_devices (
	client_id VARCHAR(64) NOT NULL, 
	device_id VARCHAR(64) NOT NULL, 
	channel VARCHAR(16) NOT NULL, 
	address TEXT NOT NULL, 
	secret TEXT NOT NULL, 
	environment VARCHAR(16), 
	topic VARCHAR(255), 
	app_version VARCHAR(64), 
	device_model VARCHAR(128), 
	timezone VARCHAR(64), 
	locale VARCHAR(32), 
	preferences TEXT, 
	created_ms BIGINT NOT NULL, 
	updated_ms BIGINT NOT NULL, 
	due_ms BIGINT, 
	PRIMARY KEY (client_id, device_id)
);
CREATE TABLE notifications (
	notification_id VARCHAR(64) NOT NULL, 
	client_id VARCHAR(64) NOT NULL, 
	number BIGINT NOT NULL, 
	kind VARCHAR(64) NOT NULL, 
	priority VARCHAR(16) NOT NULL, 
	title TEXT NOT NULL, 
	body TEXT NOT NULL, 
	fields TEXT NOT NULL, 
	data TEXT NOT NULL, 
	created_ms BIGINT NOT NULL, 
	read_ms BIGINT, 
	is_digest BOOLEAN NOT NULL, 
	PRIMARY KEY (notification_id)
);
INSERT INTO "notifications" VALUES('70ec1c44-0789-4ab2-9741-c7c91850d355','zoe',1,'task_created','low','New task: Water the plants','Status: todo','{"title":"Water the plants","task_id":"e9578c4f-22d0-4477-b0e4-29e826e24fcf","status":"todo"}','{"task_id":"e9578c4f-22d0-4477-b0e4-29e826e24fcf","status":"todo"}',1796081346968,1796081346968,0);
INSERT INTO "notifications" VALUES('6eb0e401-c8a5-4393-83b5-b312ced77f36','zoe',2,'task_created','low','New task: Grüße an Ömer 🌱','Status: todo','{"title":"Grüße an Ömer 🌱","task_id":"4700efc7-d59d-4502-8ad3-035075129adf","status":"todo"}','{"task_id":"4700efc7-d59d-4502-8ad3-035075129adf","status":"todo"}',1796081347043,1796081347043,0);
INSERT INTO "notifications" VALUES('af048a63-72c0-418e-9870-7ace0862256f','zoe',3,'task_moved','low','Task moved: Grüße an Ömer 🌱','Now in in_progress','{"title":"Grüße an Ömer 🌱","task_id":"4700efc7-d59d-4502-8ad3-035075129adf","status":"in_progress"}','{"task_id":"4700efc7-d59d-4502-8ad3-035075129adf","status":"in_progress"}',1796081347134,1796081347134,0);
INSERT INTO "notifications" VALUES('f6b8f369-2471-4eb6-806a-a125155deebd','zoe',4,'task_created','low','New task: Review `a<b>`','Status: todo','{"title":"Review `a<b>`","task_id":"60afa287-2e1b-4ccd-bc9e-a8d17e351f84","status":"todo"}','{"task_id":"60afa287-2e1b-4ccd-bc9e-a8d17e351f84","status":"todo"}',1796081347183,1796081347183,0);
INSERT INTO "notifications" VALUES('eeafa76c-b47d-4d50-a811-8ab92f93811f','zoe',5,'message','medium','Tea is ready','Käsekuchen, too','{"title":"Tea is ready","body":"Käsekuchen, too"}','{}',1796081347448,NULL,0);
CREATE TABLE responses (
	id VARCHAR(64) NOT NULL, 
	client_id VARCHAR(64) NOT NULL, 
	domain VARCHAR(256) NOT NULL, 
	previous_id VARCHAR(64), 
	created_ms BIGINT NOT NULL, 
	ended_ms BIGINT, 
	response TEXT NOT NULL, 
	restart TEXT, 
	ending TEXT, 
	text TEXT, 
	logprobs TEXT, 
	bytes BIGINT NOT NULL, 
	PRIMARY KEY (id)
);
INSERT INTO "responses" VALUES('resp_624343cc11d6a2448910ee0d93342f0f73932b53aebfed18','zoe','',NULL,1796081348564,1796081348614,'{"id": "resp_624343cc11d6a2448910ee0d93342f0f73932b53aebfed18", "created_ms": 1796081348564, "model": "mock", "head": {"echo": {"background": false, "instructions": null, "max_output_tokens": null, "max_tool_calls": null, "model": "mock", "parallel_tool_calls": true, "previous_response_id": null, "prompt_cache_key": null, "reasoning": {"effort": null, "summary": null}, "safety_identifier": null, "service_tier": "default", "store": true, "temperature": 1.0, "text": {"format": {"type": "text"}}, "tool_choice": "auto", "tools": [], "top_logprobs": 0, "top_p": 1.0, "truncation": "disabled", "user": null, "metadata": {}}, "tool_call_format": "TAGGED", "callable_schemas": {}, "reasoning_marks": "THINK", "begins_open": false, "is_forced": false, "has_logprobs": false}, "input": [{"type": "message", "role": "user", "content": [{"type": "input_text", "text": "count to 4"}], "id": "msg_624343cc11d6a2448910ee0d93342f0f73932b53aebfed18_i0", "status": "completed"}], "previous_id": null, "notifies": false, "title": "count to 4"}',NULL,'{"status": "completed", "ended_ms": 1796081348614, "reason": null, "code": null, "message": null, "prompt_tokens": 10, "cached_tokens": 0, "completion_tokens": 7}','"1 2 3 4"',NULL,1039);
CREATE TABLE subscriptions (
	client_id VARCHAR(64) NOT NULL, 
	device_id VARCHAR(64) NOT NULL, 
	channels TEXT, 
	min_priority VARCHAR(16) NOT NULL, 
	max_events_per_second FLOAT, 
	batch_ms INTEGER NOT NULL, 
	PRIMARY KEY (client_id, device_id)
);
CREATE TABLE task_dependencies (
	task_id VARCHAR(36) NOT NULL, 
	depends_on VARCHAR(36) NOT NULL, 
	place INTEGER NOT NULL, 
	PRIMARY KEY (task_id, depends_on), 
	FOREIGN KEY(task_id) REFERENCES tasks (id) ON DELETE CASCADE, 
	FOREIGN KEY(depends_on) REFERENCES tasks (id)
);
CREATE TABLE task_history (
	number INTEGER NOT NULL, 
	client_id VARCHAR(64) NOT NULL, 
	task_id VARCHAR(36) NOT NULL, 
	project VARCHAR(128) NOT NULL, 
	version BIGINT NOT NULL, 
	kind VARCHAR(16) NOT NULL, 
	time_ms BIGINT NOT NULL, 
	device_id VARCHAR(64) NOT NULL, 
	from_status VARCHAR(16), 
	to_status VARCHAR(16), 
	stay_ms BIGINT, 
	cycle_ms BIGINT, 
	changes TEXT NOT NULL, 
	PRIMARY KEY (number)
);
INSERT INTO "task_history" VALUES(1,'zoe','e9578c4f-22d0-4477-b0e4-29e826e24fcf','default',1,'created',1796081346903,':rest',NULL,'todo',NULL,NULL,'{"project":{"after":"default"},"title":{"after":"Water the plants"},"description":{"after":"Line one.\nLine two."},"status":{"after":"todo"},"priority":{"after":"medium"},"position":{"after":"V0000000"},"tags":{"after":["home","n0"]},"ai_analysis_status":{"after":"none"}}');
INSERT INTO "task_history" VALUES(2,'zoe','4700efc7-d59d-4502-8ad3-035075129adf','default',1,'created',1796081347041,':rest',NULL,'todo',NULL,NULL,'{"project":{"after":"default"},"title":{"after":"Grüße an Ömer 🌱"},"description":{"after":"Line one.\nLine two."},"status":{"after":"todo"},"priority":{"after":"medium"},"position":{"after":"V0000001"},"tags":{"after":["home","n1"]},"ai_analysis_status":{"after":"none"}}');
INSERT INTO "task_history" VALUES(3,'zoe','4700efc7-d59d-4502-8ad3-035075129adf','default',2,'moved',1796081347087,':rest','todo','in_progress',46,NULL,'{"status":{"before":"todo","after":"in_progress"},"position":{"before":"V0000001","after":"V0000000"}}');
INSERT INTO "task_history" VALUES(4,'zoe','60afa287-2e1b-4ccd-bc9e-a8d17e351f84','default',1,'created',1796081347168,':rest',NULL,'todo',NULL,NULL,'{"project":{"after":"default"},"title":{"after":"Review `a<b>`"},"description":{"after":"Line one.\nLine two."},"status":{"after":"todo"},"priority":{"after":"medium"},"position":{"after":"V0000001"},"tags":{"after":["home","n2"]},"ai_analysis_status":{"after":"none"}}');
CREATE TABLE task_tags (
	task_id VARCHAR(36) NOT NULL, 
	tag VARCHAR(64) NOT NULL, 
	PRIMARY KEY (task_id, tag), 
	FOREIGN KEY(task_id) REFERENCES tasks (id) ON DELETE CASCADE
);
INSERT INTO "task_tags" VALUES('e9578c4f-22d0-4477-b0e4-29e826e24fcf','home');
INSERT INTO "task_tags" VALUES('e9578c4f-22d0-4477-b0e4-29e826e24fcf','n0');
INSERT INTO "task_tags" VALUES('4700efc7-d59d-4502-8ad3-035075129adf','home');
INSERT INTO "task_tags" VALUES('4700efc7-d59d-4502-8ad3-035075129adf','n1');
INSERT INTO "task_tags" VALUES('60afa287-2e1b-4ccd-bc9e-a8d17e351f84','home');
INSERT INTO "task_tags" VALUES('60afa287-2e1b-4ccd-bc9e-a8d17e351f84','n2');
CREATE TABLE tasks (
	id VARCHAR(36) NOT NULL, 
	client_id VARCHAR(64) NOT NULL, 
	project VARCHAR(128) NOT NULL, 
	title VARCHAR(255) NOT NULL, 
	description TEXT, 
	status VARCHAR(16) NOT NULL, 
	priority INTEGER NOT NULL, 
	position VARCHAR(64) NOT NULL, 
	tags TEXT NOT NULL, 
	attachments TEXT NOT NULL, 
	agent_decision TEXT, 
	assignee VARCHAR(128), 
	estimate_hours FLOAT, 
	actual_hours FLOAT, 
	due_ms BIGINT, 
	confidence FLOAT, 
	ai_analysis TEXT, 
	ai_analysis_status VARCHAR(16) NOT NULL, 
	ai_analysis_confidence FLOAT, 
	version BIGINT NOT NULL, 
	created_ms BIGINT NOT NULL, 
	updated_ms BIGINT NOT NULL, 
	entered_ms BIGINT NOT NULL, 
	started_ms BIGINT, 
	due_told_ms BIGINT, 
	search_text TEXT NOT NULL, 
	PRIMARY KEY (id)
);
INSERT INTO "tasks" VALUES('e9578c4f-22d0-4477-b0e4-29e826e24fcf','zoe','default','Water the plants','Line one.
Line two.','todo',1,'V0000000','["home","n0"]','[]',NULL,NULL,NULL,NULL,NULL,NULL,NULL,'none',NULL,1,1796081346903,1796081346903,1796081346903,NULL,NULL,'water the plants
line one.
line two.
home
n0');
INSERT INTO "tasks" VALUES('4700efc7-d59d-4502-8ad3-035075129adf','zoe','default','Grüße an Ömer 🌱','Line one.
Line two.','in_progress',1,'V0000000','["home","n1"]','[]',NULL,NULL,NULL,NULL,NULL,NULL,NULL,'none',NULL,2,1796081347041,1796081347087,1796081347087,1796081347087,NULL,'grüsse an ömer 🌱
line one.
line two.
home
n1');
INSERT INTO "tasks" VALUES('60afa287-2e1b-4ccd-bc9e-a8d17e351f84','zoe','default','Review `a<b>`','Line one.
Line two.','todo',1,'V0000001','["home","n2"]','[]',NULL,NULL,NULL,NULL,NULL,NULL,NULL,'none',NULL,1,1796081347168,1796081347168,1796081347168,NULL,NULL,'review `a<b>`
line one.
line two.
home
n2');
CREATE TABLE turns (
	client_id VARCHAR(64) NOT NULL, 
	name VARCHAR(64) NOT NULL, 
	number BIGINT NOT NULL, 
	role VARCHAR(16) NOT NULL, 
	content TEXT NOT NULL, 
	prompt TEXT, 
	intent VARCHAR(16), 
	is_partial BOOLEAN NOT NULL, 
	bytes INTEGER NOT NULL, 
	time_ms BIGINT NOT NULL, 
	PRIMARY KEY (client_id, name, number)
);
INSERT INTO "turns" VALUES('zoe','tour',1,'user','count to 3',NULL,NULL,0,10,1796081347252);
INSERT INTO "turns" VALUES('zoe','tour',2,'assistant','1 2 3',NULL,NULL,0,5,1796081347290);
INSERT INTO "turns" VALUES('zoe','tour',3,'user','count to 5',NULL,NULL,0,10,1796081347380);
INSERT INTO "turns" VALUES('zoe','tour',4,'assistant','1 2 3 4 5',NULL,NULL,0,9,1796081347413);
CREATE INDEX events_by_time ON events (time_ms);
CREATE INDEX idempotency_by_time ON idempotency (time_ms);
CREATE INDEX generations_by_end ON generations (ended_ms);
CREATE INDEX acknowledgements_by_time ON acknowledgements (time_ms);
CREATE INDEX tasks_by_place ON tasks (client_id, project, status, position, id);
CREATE INDEX tasks_by_creation ON tasks (client_id, created_ms, id);
CREATE INDEX tasks_by_update ON tasks (client_id, updated_ms, id);
CREATE INDEX tasks_by_due ON tasks (due_ms);
CREATE INDEX tasks_by_analysis ON tasks (ai_analysis_status, created_ms);
CREATE INDEX dependents ON task_dependencies (depends_on);
CREATE INDEX history_of_task ON task_history (client_id, task_id, number);
CREATE INDEX history_of_columns ON task_history (client_id, to_status, time_ms);
CREATE UNIQUE INDEX notifications_by_client ON notifications (client_id, number);
CREATE INDEX notifications_by_time ON notifications (created_ms);
CREATE INDEX notification_devices_due ON notification_devices (channel, due_ms);
CREATE INDEX notification_deliveries_lane ON notification_deliveries (client_id, device_id, channel, state, number);
CREATE INDEX notification_deliveries_due ON notification_deliveries (state, due_ms);
CREATE INDEX notification_deliveries_rate ON notification_deliveries (client_id, device_id, channel, released_ms);
CREATE INDEX assists_by_client ON assists (client_id);
CREATE INDEX responses_by_client ON responses (client_id, created_ms);
CREATE INDEX responses_by_end ON responses (ended_ms);
COMMIT;
