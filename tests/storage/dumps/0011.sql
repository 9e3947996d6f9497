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
INSERT INTO "access_tokens" VALUES('c1b489eae0e2','phone','309c824f4df6ea080ca06db95f5896e0d4bd7ddef42a8da935839872c5a9393f','["zoe"]','["user"]',1796133395401,NULL,NULL,0);
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
INSERT INTO "alembic_version" VALUES('0011');
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
INSERT INTO "client_logs" VALUES('','6e5121925008c3cb516b6510104f3c15',0);
INSERT INTO "client_logs" VALUES('zoe','a59b6375792c3542',14);
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
	running_stream VARCHAR(256), leaf BIGINT DEFAULT '0' NOT NULL, way_turns BIGINT DEFAULT '0' NOT NULL, other_turns BIGINT DEFAULT '0' NOT NULL, version BIGINT DEFAULT '0' NOT NULL, metadata TEXT DEFAULT '{}' NOT NULL, keeps_all BOOLEAN DEFAULT 0 NOT NULL, 
	PRIMARY KEY (client_id, name)
);
INSERT INTO "conversations" VALUES('zoe','tour',1796133389810,1796133390134,NULL,4,1,1,34,NULL,NULL,4,4,0,4,'{}',0);
INSERT INTO "conversations" VALUES('zoe','conv_562dee7a1c08d871ab7570ae2585dd78522ec35e0dda131d',1796133391489,1796133391656,NULL,6,1,1,1078,NULL,NULL,6,3,0,6,'{"topic": "B\u00e4ume"}',1);
INSERT INTO "conversations" VALUES('zoe','conv_2a17a56708b88a16970b9953f36c4b6c9ee7921da67c7e59',1796133391707,1796133391707,NULL,0,1,1,0,NULL,NULL,0,0,0,0,'{}',1);
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
INSERT INTO "events" VALUES('zoe',1,'task_created','tasks','medium',1796133389297,'{"event_id":"99998787-67cf-43a2-80f2-ec0377139d5d","channel":"tasks","priority":"medium","task":{"id":"15914f99-fc75-4398-ad2b-107d5ed805c6","client_id":"zoe","project":"default","title":"Water the plants","description":"Line one.\nLine two.","status":"todo","priority":"medium","position":"V0000000","tags":["home","n0"],"dependencies":[],"attachments":[],"ai_analysis_status":"none","is_blocked":false,"requires_approval":false,"version":1,"created":"2026-12-01T13:56:29.280Z","updated":"2026-12-01T13:56:29.280Z"}}',517);
INSERT INTO "events" VALUES('zoe',2,'notification','notifications','low',1796133389297,'{"event_id":"d1763f96-d3d2-4c89-af22-f290a28d8211","channel":"notifications","priority":"low","notification":{"notification_id":"2d21797a-15d3-4842-ab9e-32b224429e96","kind":"task_created","priority":"low","title":"New task: Water the plants","body":"Status: todo","data":{"task_id":"15914f99-fc75-4398-ad2b-107d5ed805c6","status":"todo"},"created_at":"2026-12-01T13:56:29.348Z","read_at":"2026-12-01T13:56:29.348Z"}}',417);
INSERT INTO "events" VALUES('zoe',3,'task_created','tasks','medium',1796133389487,'{"event_id":"bf1768c4-06fa-433a-9b57-2786e21882ec","channel":"tasks","priority":"medium","task":{"id":"84d7f48c-e285-4e14-a82b-99903014c593","client_id":"zoe","project":"default","title":"Grüße an Ömer 🌱","description":"Line one.\nLine two.","status":"todo","priority":"medium","position":"V0000001","tags":["home","n1"],"dependencies":[],"attachments":[],"ai_analysis_status":"none","is_blocked":false,"requires_approval":false,"version":1,"created":"2026-12-01T13:56:29.479Z","updated":"2026-12-01T13:56:29.479Z"}}',522);
INSERT INTO "events" VALUES('zoe',4,'notification','notifications','low',1796133389487,'{"event_id":"f2505c19-ca4d-491c-980b-e819d2c6780d","channel":"notifications","priority":"low","notification":{"notification_id":"0bed7e8b-963b-4d4e-89ba-486d85daa577","kind":"task_created","priority":"low","title":"New task: Grüße an Ömer 🌱","body":"Status: todo","data":{"task_id":"84d7f48c-e285-4e14-a82b-99903014c593","status":"todo"},"created_at":"2026-12-01T13:56:29.491Z","read_at":"2026-12-01T13:56:29.491Z"}}',422);
INSERT INTO "events" VALUES('zoe',5,'task_moved','tasks','medium',1796133389563,'{"event_id":"ceaa8993-2e9b-4337-92d4-0eb52e3a1f15","channel":"tasks","priority":"medium","task":{"id":"84d7f48c-e285-4e14-a82b-99903014c593","client_id":"zoe","project":"default","title":"Grüße an Ömer 🌱","description":"Line one.\nLine two.","status":"in_progress","priority":"medium","position":"V0000000","tags":["home","n1"],"dependencies":[],"attachments":[],"ai_analysis_status":"none","is_blocked":false,"requires_approval":false,"version":2,"created":"2026-12-01T13:56:29.479Z","updated":"2026-12-01T13:56:29.554Z"}}',529);
INSERT INTO "events" VALUES('zoe',6,'notification','notifications','low',1796133389563,'{"event_id":"9c5aac61-ab75-49cd-a4e0-ec5999ce0186","channel":"notifications","priority":"low","notification":{"notification_id":"f0e1bae5-a74e-4b00-a7c1-24a223032581","kind":"task_moved","priority":"low","title":"Task moved: Grüße an Ömer 🌱","body":"Now in in_progress","data":{"task_id":"84d7f48c-e285-4e14-a82b-99903014c593","status":"in_progress"},"created_at":"2026-12-01T13:56:29.589Z","read_at":"2026-12-01T13:56:29.589Z"}}',435);
INSERT INTO "events" VALUES('zoe',7,'task_created','tasks','medium',1796133389654,'{"event_id":"238d8f2d-4538-4438-89f0-4ad1268b1d95","channel":"tasks","priority":"medium","task":{"id":"2c391837-4383-4ea7-bb81-477d738876c0","client_id":"zoe","project":"default","title":"Review `a<b>`","description":"Line one.\nLine two.","status":"todo","priority":"medium","position":"V0000001","tags":["home","n2"],"dependencies":[],"attachments":[],"ai_analysis_status":"none","is_blocked":false,"requires_approval":false,"version":1,"created":"2026-12-01T13:56:29.648Z","updated":"2026-12-01T13:56:29.648Z"}}',514);
INSERT INTO "events" VALUES('zoe',8,'notification','notifications','low',1796133389654,'{"event_id":"46b56fde-d42a-4621-8fb1-91ca8ca408c3","channel":"notifications","priority":"low","notification":{"notification_id":"7d3ea2d7-befe-4fb8-8c0c-c0ecda8b0e6c","kind":"task_created","priority":"low","title":"New task: Review `a<b>`","body":"Status: todo","data":{"task_id":"2c391837-4383-4ea7-bb81-477d738876c0","status":"todo"},"created_at":"2026-12-01T13:56:29.662Z","read_at":"2026-12-01T13:56:29.662Z"}}',414);
INSERT INTO "events" VALUES('zoe',9,'ai_response','ai','medium',1796133389928,'{"event_id":"6b84659d-a1be-4ced-9a82-1e04a63e86e3","channel":"ai","priority":"medium","command":"generate","id":"ai-72aecde9bc922e5de6f89931","analysis":"1 2 3","conversation":"tour"}',183);
INSERT INTO "events" VALUES('zoe',10,'ai_response','ai','medium',1796133390123,'{"event_id":"1bc8b6b7-a265-42e8-b9af-e740cb7a5d90","channel":"ai","priority":"medium","command":"generate","id":"ai-978b2083ba802bf5663bb57c","analysis":"1 2 3 4 5","conversation":"tour"}',187);
INSERT INTO "events" VALUES('zoe',11,'notification','notifications','medium',1796133390218,'{"event_id":"3876ca9e-01e6-44ce-afbe-94e11a36b8b2","channel":"notifications","priority":"medium","notification":{"notification_id":"66b8b310-4eec-415b-8c43-1d677c8f9258","kind":"message","priority":"medium","title":"Tea is ready","body":"Käsekuchen, too","data":{},"created_at":"2026-12-01T13:56:30.218Z"}}',307);
INSERT INTO "events" VALUES('zoe',12,'conversation_changed','ai','low',1796133391505,'{"event_id":"9b5d9542-73be-44d6-bd29-8ef7505522ce","channel":"ai","priority":"low","conversation":"conv_562dee7a1c08d871ab7570ae2585dd78522ec35e0dda131d","change":"begun"}',171);
INSERT INTO "events" VALUES('zoe',13,'ai_response','ai','medium',1796133391634,'{"event_id":"a2b8cf15-c0ea-47a7-b5a1-08018018e6ac","channel":"ai","priority":"medium","command":"response","id":"resp_85070bfee4aee06d46fbac3c237186aad359c86825ec958f","analysis":"1 2","conversation":"conv_562dee7a1c08d871ab7570ae2585dd78522ec35e0dda131d"}',256);
INSERT INTO "events" VALUES('zoe',14,'conversation_changed','ai','low',1796133391708,'{"event_id":"84986893-034a-4c5b-9143-570b78712504","channel":"ai","priority":"low","conversation":"conv_2a17a56708b88a16970b9953f36c4b6c9ee7921da67c7e59","change":"begun"}',171);
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
INSERT INTO "notification_deliveries" VALUES('2d21797a-15d3-4842-ab9e-32b224429e96','in_app','','zoe',1,'sent',NULL,0,NULL,1796133389348,1796133389348,NULL,NULL,NULL);
INSERT INTO "notification_deliveries" VALUES('0bed7e8b-963b-4d4e-89ba-486d85daa577','in_app','','zoe',2,'sent',NULL,0,NULL,1796133389491,1796133389491,NULL,NULL,NULL);
INSERT INTO "notification_deliveries" VALUES('f0e1bae5-a74e-4b00-a7c1-24a223032581','in_app','','zoe',3,'sent',NULL,0,NULL,1796133389589,1796133389589,NULL,NULL,NULL);
INSERT INTO "notification_deliveries" VALUES('7d3ea2d7-befe-4fb8-8c0c-c0ecda8b0e6c','in_app','','zoe',4,'sent',NULL,0,NULL,1796133389662,1796133389662,NULL,NULL,NULL);
INSERT INTO "notification_deliveries" VALUES('66b8b310-4eec-415b-8c43-1d677c8f9258','in_app','','zoe',5,'sent',NULL,0,NULL,1796133390218,1796133390218,NULL,NULL,NULL);
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
INSERT INTO "notifications" VALUES('2d21797a-15d3-4842-ab9e-32b224429e96','zoe',1,'task_created','low','New task: Water the plants','Status: todo','{"title":"Water the plants","task_id":"15914f99-fc75-4398-ad2b-107d5ed805c6","status":"todo"}','{"task_id":"15914f99-fc75-4398-ad2b-107d5ed805c6","status":"todo"}',1796133389348,1796133389348,0);
INSERT INTO "notifications" VALUES('0bed7e8b-963b-4d4e-89ba-486d85daa577','zoe',2,'task_created','low','New task: Grüße an Ömer 🌱','Status: todo','{"title":"Grüße an Ömer 🌱","task_id":"84d7f48c-e285-4e14-a82b-99903014c593","status":"todo"}','{"task_id":"84d7f48c-e285-4e14-a82b-99903014c593","status":"todo"}',1796133389491,1796133389491,0);
INSERT INTO "notifications" VALUES('f0e1bae5-a74e-4b00-a7c1-24a223032581','zoe',3,'task_moved','low','Task moved: Grüße an Ömer 🌱','Now in in_progress','{"title":"Grüße an Ömer 🌱","task_id":"84d7f48c-e285-4e14-a82b-99903014c593","status":"in_progress"}','{"task_id":"84d7f48c-e285-4e14-a82b-99903014c593","status":"in_progress"}',1796133389589,1796133389589,0);
INSERT INTO "notifications" VALUES('7d3ea2d7-befe-4fb8-8c0c-c0ecda8b0e6c','zoe',4,'task_created','low','New task: Review `a<b>`','Status: todo','{"title":"Review `a<b>`","task_id":"2c391837-4383-4ea7-bb81-477d738876c0","status":"todo"}','{"task_id":"2c391837-4383-4ea7-bb81-477d738876c0","status":"todo"}',1796133389662,1796133389662,0);
INSERT INTO "notifications" VALUES('66b8b310-4eec-415b-8c43-1d677c8f9258','zoe',5,'message','medium','Tea is ready','Käsekuchen, too','{"title":"Tea is ready","body":"Käsekuchen, too"}','{}',1796133390218,NULL,0);
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
	bytes BIGINT NOT NULL, conversation_id VARCHAR(64), 
	PRIMARY KEY (id)
);
INSERT INTO "responses" VALUES('resp_1afc82d02515992ba776c41943174d827308d5d7b77edea3','zoe','',NULL,1796133391318,1796133391386,'{"id": "resp_1afc82d02515992ba776c41943174d827308d5d7b77edea3", "created_ms": 1796133391318, "model": "mock", "head": {"echo": {"background": false, "instructions": null, "max_output_tokens": null, "max_tool_calls": null, "model": "mock", "parallel_tool_calls": true, "previous_response_id": null, "prompt_cache_key": null, "reasoning": {"effort": null, "summary": null}, "safety_identifier": null, "service_tier": "default", "store": true, "temperature": 1.0, "text": {"format": {"type": "text"}}, "tool_choice": "auto", "tools": [], "top_logprobs": 0, "top_p": 1.0, "truncation": "disabled", "user": null, "metadata": {}}, "tool_call_format": "TAGGED", "callable_schemas": {}, "reasoning_marks": "THINK", "begins_open": false, "is_forced": false, "has_logprobs": false}, "input": [{"type": "message", "role": "user", "content": [{"type": "input_text", "text": "count to 4"}], "id": "msg_1afc82d02515992ba776c41943174d827308d5d7b77edea3_i0", "status": "completed"}], "previous_id": null, "conversation_id": null, "conversation_version": 0, "conversation_leaf": 0, "notifies": false, "title": "count to 4"}',NULL,'{"status": "completed", "ended_ms": 1796133391386, "reason": null, "code": null, "message": null, "prompt_tokens": 10, "cached_tokens": 0, "completion_tokens": 7, "reasoning_tokens": 0}','"1 2 3 4"',NULL,1115,NULL);
INSERT INTO "responses" VALUES('resp_85070bfee4aee06d46fbac3c237186aad359c86825ec958f','zoe','',NULL,1796133391560,1796133391632,'{"id": "resp_85070bfee4aee06d46fbac3c237186aad359c86825ec958f", "created_ms": 1796133391560, "model": "mock", "head": {"echo": {"background": false, "instructions": null, "max_output_tokens": null, "max_tool_calls": null, "model": "mock", "parallel_tool_calls": true, "previous_response_id": null, "prompt_cache_key": null, "reasoning": {"effort": null, "summary": null}, "safety_identifier": null, "service_tier": "default", "store": true, "temperature": 1.0, "text": {"format": {"type": "text"}}, "tool_choice": "auto", "tools": [], "top_logprobs": 0, "top_p": 1.0, "truncation": "disabled", "user": null, "metadata": {}, "conversation": {"id": "conv_562dee7a1c08d871ab7570ae2585dd78522ec35e0dda131d"}}, "tool_call_format": "TAGGED", "callable_schemas": {}, "reasoning_marks": "THINK", "begins_open": false, "is_forced": false, "has_logprobs": false}, "input": [{"type": "message", "role": "user", "content": [{"type": "input_text", "text": "count to 2"}], "id": "msg_85070bfee4aee06d46fbac3c237186aad359c86825ec958f_i0", "status": "completed"}], "previous_id": null, "conversation_id": "conv_562dee7a1c08d871ab7570ae2585dd78522ec35e0dda131d", "conversation_version": 4, "conversation_leaf": 4, "notifies": false, "title": "count to 2"}',NULL,'{"status": "completed", "ended_ms": 1796133391632, "reason": null, "code": null, "message": null, "prompt_tokens": 10, "cached_tokens": 0, "completion_tokens": 3, "reasoning_tokens": 0}','"1 2"',NULL,1243,'conv_562dee7a1c08d871ab7570ae2585dd78522ec35e0dda131d');
CREATE TABLE subscriptions (
	client_id VARCHAR(64) NOT NULL, 
	device_id VARCHAR(64) NOT NULL, 
	channels TEXT, 
	min_priority VARCHAR(16) NOT NULL, 
	max_events_per_second FLOAT, 
	batch_ms INTEGER NOT NULL, 
	PRIMARY KEY (client_id, device_id)
);
CREATE TABLE task_claims (
	task_id VARCHAR(36) NOT NULL, 
	client_id VARCHAR(64) NOT NULL, 
	lease VARCHAR(36) NOT NULL, 
	holder VARCHAR(128) NOT NULL, 
	until_ms BIGINT NOT NULL, 
	from_status VARCHAR(16) NOT NULL, 
	from_assignee VARCHAR(128), 
	PRIMARY KEY (task_id), 
	FOREIGN KEY(task_id) REFERENCES tasks (id) ON DELETE CASCADE
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
INSERT INTO "task_history" VALUES(1,'zoe','15914f99-fc75-4398-ad2b-107d5ed805c6','default',1,'created',1796133389280,':rest',NULL,'todo',NULL,NULL,'{"project":{"after":"default"},"title":{"after":"Water the plants"},"description":{"after":"Line one.\nLine two."},"status":{"after":"todo"},"priority":{"after":"medium"},"position":{"after":"V0000000"},"tags":{"after":["home","n0"]},"ai_analysis_status":{"after":"none"}}');
INSERT INTO "task_history" VALUES(2,'zoe','84d7f48c-e285-4e14-a82b-99903014c593','default',1,'created',1796133389479,':rest',NULL,'todo',NULL,NULL,'{"project":{"after":"default"},"title":{"after":"Grüße an Ömer 🌱"},"description":{"after":"Line one.\nLine two."},"status":{"after":"todo"},"priority":{"after":"medium"},"position":{"after":"V0000001"},"tags":{"after":["home","n1"]},"ai_analysis_status":{"after":"none"}}');
INSERT INTO "task_history" VALUES(3,'zoe','84d7f48c-e285-4e14-a82b-99903014c593','default',2,'moved',1796133389554,':rest','todo','in_progress',75,NULL,'{"status":{"before":"todo","after":"in_progress"},"position":{"before":"V0000001","after":"V0000000"}}');
INSERT INTO "task_history" VALUES(4,'zoe','2c391837-4383-4ea7-bb81-477d738876c0','default',1,'created',1796133389648,':rest',NULL,'todo',NULL,NULL,'{"project":{"after":"default"},"title":{"after":"Review `a<b>`"},"description":{"after":"Line one.\nLine two."},"status":{"after":"todo"},"priority":{"after":"medium"},"position":{"after":"V0000001"},"tags":{"after":["home","n2"]},"ai_analysis_status":{"after":"none"}}');
CREATE TABLE task_tags (
	task_id VARCHAR(36) NOT NULL, 
	tag VARCHAR(64) NOT NULL, 
	PRIMARY KEY (task_id, tag), 
	FOREIGN KEY(task_id) REFERENCES tasks (id) ON DELETE CASCADE
);
INSERT INTO "task_tags" VALUES('15914f99-fc75-4398-ad2b-107d5ed805c6','home');
INSERT INTO "task_tags" VALUES('15914f99-fc75-4398-ad2b-107d5ed805c6','n0');
INSERT INTO "task_tags" VALUES('84d7f48c-e285-4e14-a82b-99903014c593','home');
INSERT INTO "task_tags" VALUES('84d7f48c-e285-4e14-a82b-99903014c593','n1');
INSERT INTO "task_tags" VALUES('2c391837-4383-4ea7-bb81-477d738876c0','home');
INSERT INTO "task_tags" VALUES('2c391837-4383-4ea7-bb81-477d738876c0','n2');
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
INSERT INTO "tasks" VALUES('15914f99-fc75-4398-ad2b-107d5ed805c6','zoe','default','Water the plants','Line one.
Line two.','todo',1,'V0000000','["home","n0"]','[]',NULL,NULL,NULL,NULL,NULL,NULL,NULL,'none',NULL,1,1796133389280,1796133389280,1796133389280,NULL,NULL,'water the plants
line one.
line two.
home
n0');
INSERT INTO "tasks" VALUES('84d7f48c-e285-4e14-a82b-99903014c593','zoe','default','Grüße an Ömer 🌱','Line one.
Line two.','in_progress',1,'V0000000','["home","n1"]','[]',NULL,NULL,NULL,NULL,NULL,NULL,NULL,'none',NULL,2,1796133389479,1796133389554,1796133389554,1796133389554,NULL,'grüsse an ömer 🌱
line one.
line two.
home
n1');
INSERT INTO "tasks" VALUES('2c391837-4383-4ea7-bb81-477d738876c0','zoe','default','Review `a<b>`','Line one.
Line two.','todo',1,'V0000001','["home","n2"]','[]',NULL,NULL,NULL,NULL,NULL,NULL,NULL,'none',NULL,1,1796133389648,1796133389648,1796133389648,NULL,NULL,'review `a<b>`
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
	time_ms BIGINT NOT NULL, parent BIGINT DEFAULT '0' NOT NULL, item_id VARCHAR(256), item TEXT, 
	PRIMARY KEY (client_id, name, number)
);
INSERT INTO "turns" VALUES('zoe','tour',1,'user','count to 3',NULL,NULL,0,10,1796133389846,0,NULL,NULL);
INSERT INTO "turns" VALUES('zoe','tour',2,'assistant','1 2 3',NULL,NULL,0,5,1796133389932,1,NULL,NULL);
INSERT INTO "turns" VALUES('zoe','tour',3,'user','count to 5',NULL,NULL,0,10,1796133390089,2,NULL,NULL);
INSERT INTO "turns" VALUES('zoe','tour',4,'assistant','1 2 3 4 5',NULL,NULL,0,9,1796133390125,3,NULL,NULL);
INSERT INTO "turns" VALUES('zoe','conv_562dee7a1c08d871ab7570ae2585dd78522ec35e0dda131d',1,'system','Grüß dich',NULL,NULL,0,195,1796133391522,0,'msg_0c9774125cde40a2269a45a95f3522193bd9ec89efc72a08_0','{"type": "message", "role": "developer", "content": [{"type": "input_text", "text": "Gr\u00fc\u00df dich"}], "id": "msg_0c9774125cde40a2269a45a95f3522193bd9ec89efc72a08_0", "status": "completed"}');
INSERT INTO "turns" VALUES('zoe','conv_562dee7a1c08d871ab7570ae2585dd78522ec35e0dda131d',2,'user','Grüß dich',NULL,NULL,0,190,1796133391524,1,'msg_0c9774125cde40a2269a45a95f3522193bd9ec89efc72a08_1','{"type": "message", "role": "user", "content": [{"type": "input_text", "text": "Gr\u00fc\u00df dich"}], "id": "msg_0c9774125cde40a2269a45a95f3522193bd9ec89efc72a08_1", "status": "completed"}');
INSERT INTO "turns" VALUES('zoe','conv_562dee7a1c08d871ab7570ae2585dd78522ec35e0dda131d',3,'call','look({"at": "🌱"})',NULL,NULL,0,164,1796133391525,2,'fc_0c9774125cde40a2269a45a95f3522193bd9ec89efc72a08_2','{"type": "function_call", "call_id": "c1", "name": "look", "arguments": "{\"at\": \"\ud83c\udf31\"}", "id": "fc_0c9774125cde40a2269a45a95f3522193bd9ec89efc72a08_2"}');
INSERT INTO "turns" VALUES('zoe','conv_562dee7a1c08d871ab7570ae2585dd78522ec35e0dda131d',4,'result','green',NULL,NULL,0,132,1796133391539,3,'out_0c9774125cde40a2269a45a95f3522193bd9ec89efc72a08_3','{"type": "function_call_output", "call_id": "c1", "output": "green", "id": "out_0c9774125cde40a2269a45a95f3522193bd9ec89efc72a08_3"}');
INSERT INTO "turns" VALUES('zoe','conv_562dee7a1c08d871ab7570ae2585dd78522ec35e0dda131d',5,'user','count to 2',NULL,NULL,0,182,1796133391645,4,'msg_85070bfee4aee06d46fbac3c237186aad359c86825ec958f_i0','{"type": "message", "role": "user", "content": [{"type": "input_text", "text": "count to 2"}], "id": "msg_85070bfee4aee06d46fbac3c237186aad359c86825ec958f_i0", "status": "completed"}');
INSERT INTO "turns" VALUES('zoe','conv_562dee7a1c08d871ab7570ae2585dd78522ec35e0dda131d',6,'assistant','1 2',NULL,NULL,0,215,1796133391655,5,'msg_85070bfee4aee06d46fbac3c237186aad359c86825ec958f_0','{"id": "msg_85070bfee4aee06d46fbac3c237186aad359c86825ec958f_0", "type": "message", "status": "completed", "role": "assistant", "content": [{"type": "output_text", "text": "1 2", "annotations": [], "logprobs": []}]}');
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
CREATE INDEX claims_by_end ON task_claims (until_ms);
CREATE INDEX responses_by_conversation ON responses (conversation_id, ended_ms);
CREATE UNIQUE INDEX turns_by_item ON turns (client_id, name, item_id);
COMMIT;
